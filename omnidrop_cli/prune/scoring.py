"""How much attention tokens receive, from a few rows' queries and a layer's keys, without the attention matrix.

Softmax over the alive keys, causal by position, with grouped key-value heads.
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_LOGITS = 1 << 24
"""Largest block of logits held at once (64 MiB in float32). A longer prompt means fewer rows per block, never more memory."""


def attention_received(
    queries: Tensor,  # (H, r, dh)
    keys: Tensor,  # (Hkv, n, dh)
    query_rows: Tensor,  # (r,)
    *,
    scale: float,
    targets: Tensor,  # (m,)
) -> Tensor:
    """(m,) float32: softmax mass each target key receives, mean over heads and rows (OmniDrop Eq. 5).

    `query_rows` are the rows' positions among the n alive keys: a row sees the keys up to its own. H is a multiple of Hkv, and head
    h reads key-value head h // (H / Hkv). The softmax runs in float32 whatever the inputs are. Without rows every score is 0.
    """
    heads, rows, head_dim = queries.shape
    groups, alive, _ = keys.shape
    if rows == 0:
        return torch.zeros(targets.shape[0], dtype=torch.float32, device=keys.device)
    copied = torch.empty(queries.shape, dtype=torch.float32, device=queries.device).copy_(queries)  # rows of a head together, too
    grouped = copied.mul_(scale).view(groups, heads // groups, rows, head_dim)
    transposed = keys.float().transpose(1, 2)
    position = torch.arange(alive, device=keys.device)
    parts = []
    block = max(1, MAX_LOGITS // (heads * alive))
    for start in range(0, rows, block):
        some = grouped[:, :, start : start + block]
        count = some.shape[2]
        logits = (some.reshape(groups, -1, head_dim) @ transposed).view(heads, count, alive)
        later = position > query_rows[start : start + count, None]
        parts.append(logits.masked_fill_(later, float("-inf")).softmax(dim=-1).sum(dim=(0, 1)))
    total = parts[0] if len(parts) == 1 else torch.stack(parts).sum(dim=0)
    return total[targets] / (heads * rows)
