"""Attention of one query over whole buffers, in which a mask hides the rows that nothing was written to.

SDPA with a mask runs a kernel that gives each key head to one thread block: 4 of 132 processors of an H100 work at the geometry of
Qwen2.5-Omni 7B, and a token took 123 ms behind 100,000 rows (docs/results/gpu.md). Here the products are split over the rows instead.
"""

from __future__ import annotations

import torch
from torch import Tensor

from omnidrop_cli.model.products import float32_products

SPLITS = (256, 128, 64)
"""Rows that one product takes; the first that divides the buffer's length, which is a multiple of 64 (`kv_cache.ALIGNED`)."""


def masked_attention(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Softmax attention in float32, without a wait for the host and without a shape that depends on a value.

    Args:
        query: (1, heads, 1, dh).
        keys: (1, kv heads, n, dh), n a multiple of 64; so are `values`. Masked rows must be finite.
        mask: float32 (n,), 0 or minus infinity.
        scale: factor of the logits.

    Returns:
        (1, heads, 1, dh) in the dtype of `query`.
    """
    groups, rows, size = keys.shape[1:]
    split = next(size for size in SPLITS if rows % size == 0)
    # Logits rounded to bfloat16 would be off by 0.4 % each.
    scores = float32_products(query.view(groups, -1, size), keys[0].transpose(1, 2))  # (kv heads, heads per kv head, n)
    weights = torch.add(mask, scores, alpha=scale).softmax(-1)
    pieces = torch.empty(groups, rows // split, weights.shape[1], split, dtype=values.dtype, device=values.device)
    pieces.copy_(weights.unflatten(2, (-1, split)).transpose(1, 2))
    sums = float32_products(pieces.flatten(0, 1), values[0].unflatten(1, (-1, split)).flatten(0, 1))
    return sums.view(groups, -1, weights.shape[1], size).sum(1).to(query.dtype).view_as(query)
