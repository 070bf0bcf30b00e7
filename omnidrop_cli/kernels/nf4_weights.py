"""NF4 weights of bitsandbytes by their parts, for kernels that read them in place.

In: a projection, or all of a decoder layer's. Out: the tensors behind it, or None where something else than plain NF4 products happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

NF4_BLOCK = 64
"""Weights that share one scale (bitsandbytes' default)."""

NESTED_BLOCK = 256
"""Scales that share a scale of their own, in double quantisation (bitsandbytes' default)."""


@dataclass(frozen=True, slots=True)
class NF4Weights:
    """A matrix (n, k) in blocks of 64 weights along its rows.

    `words` (n * k / 8,) int32 hold eight weights each, first the high and then the low half of every byte, the lowest byte first; `codes`
    (16,) float32 is what a half byte stands for. The scale of block b is `scales[b]` (float32). In double quantisation `nested` holds
    (codes of the scales (256,), scales of the scales, offset ()), all float32, and block b has the scale
    codes[scales[b]] * scales_of_scales[b // 256] + offset.
    """

    words: Tensor
    codes: Tensor
    scales: Tensor
    nested: tuple[Tensor, Tensor, Tensor] | None
    bias: Tensor | None
    n: int
    k: int


@dataclass(frozen=True, slots=True)
class NF4Layer:
    """A decoder layer whose projections are NF4. Norms are (weight, epsilon). `qkv` are alike; so are `gate` and `up`, without a bias."""

    attention_norm: tuple[Tensor, float]
    qkv: tuple[NF4Weights, NF4Weights, NF4Weights]
    o: NF4Weights
    mlp_norm: tuple[Tensor, float]
    gate: NF4Weights
    up: NF4Weights
    down: NF4Weights
    head_dim: int
    scale: float


def alike(weights: Sequence[NF4Weights]) -> bool:
    """Whether one kernel can read all of `weights`: scales of one kind, and a bias for each or for none."""
    kinds = {(one.k, one.nested is None, one.bias is None) for one in weights}
    return len(kinds) == 1


def nf4_weights(linear: Any, dtype: torch.dtype) -> NF4Weights | None:
    """The parts of `linear`; None where it is no plain NF4 layer that computes in `dtype`: hooks, adapters, blocks of another size."""
    import bitsandbytes as bnb

    if type(linear) is not bnb.nn.Linear4bit or linear._forward_hooks or linear._forward_pre_hooks:
        return None
    packed, state = linear.weight.data, linear.weight.quant_state
    if state is None or state.quant_type != "nf4" or state.blocksize != NF4_BLOCK or getattr(state, "packing_format_for_cpu", False):
        return None
    n, k = state.shape
    inner = state.state2 if state.nested else None
    plain = linear.compute_dtype in (None, dtype) and (n, k) == (linear.out_features, linear.in_features)
    if not plain or k % NF4_BLOCK or not packed.is_contiguous() or (inner is not None and inner.blocksize != NESTED_BLOCK):
        return None
    nested = None if inner is None else (inner.code, inner.absmax, state.offset)
    return NF4Weights(packed.view(-1).view(torch.int32), state.code, state.absmax, nested, linear.bias, n, k)
