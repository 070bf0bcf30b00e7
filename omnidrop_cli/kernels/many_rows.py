"""Triton kernels for many rows through a decoder layer: weights unpacked for a product, the rotation of heads, the activation of an MLP.

Each does in one launch, and one pass, what PyTorch or bitsandbytes does in several.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from omnidrop_cli.kernels.nf4_lookup import TYPES, codes_of, looked_up, matrix_of, scales_of
from omnidrop_cli.kernels.nf4_weights import NF4Weights

BLOCKS = 64
"""Blocks of 64 weights of a program that unpacks: 8 kB of half precision."""

ROWS = 32
"""Rows of a program that rotates."""

NUMBERS = 2048
"""Values of a program that activates."""


@triton.jit(do_not_specialize=["count"])
def _unpack(codes, matrix, out, count, nested: tl.constexpr, blocks: tl.constexpr, shuffle: tl.constexpr, dtype: tl.constexpr):
    words, scales, outer, offset, _ = matrix
    code, code_of_scales = codes
    block = tl.program_id(0) * blocks + tl.arange(0, blocks)
    present = block < count
    place = block.to(tl.int64)[:, None] * 8 + tl.arange(0, 8)[None]
    v0, v1, v2, v3, v4, v5, v6, v7 = looked_up(tl.load(words + place, mask=present[:, None], other=0), code, shuffle)
    scale = scales_of(scales, outer, tl.load(offset) if nested else 0.0, code_of_scales, block, present, nested)
    # The last join is of neighbours: its new dimension varies fastest.
    even = tl.join(tl.join(v0, v4), tl.join(v2, v6))
    odd = tl.join(tl.join(v1, v5), tl.join(v3, v7))
    values = tl.reshape(tl.join(even, odd), (blocks, 64)) * scale[:, None]
    to = block.to(tl.int64)[:, None] * 64 + tl.arange(0, 64)[None]
    tl.store(out + to, values.to(dtype), mask=present[:, None])


def unpack(weights: NF4Weights, out: Tensor) -> None:
    """Write `weights` into `out` (n, k), contiguous: the numbers that bitsandbytes' dequantisation gives."""
    count = out.numel() // 64
    with torch.cuda.device_of(out):
        _unpack[(triton.cdiv(count, BLOCKS),)](
            codes_of(weights), matrix_of(weights), out, count, nested=weights.nested is not None, blocks=BLOCKS,
            shuffle=out.is_cuda, dtype=TYPES[out.dtype], num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip


@triton.jit(do_not_specialize=["count"])
def _rotate(heads, cos, sin, count, stride, size: tl.constexpr, rows: tl.constexpr):
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    half = tl.arange(0, size // 2)
    present = (row < count)[:, None]
    left = heads + row.to(tl.int64)[:, None] * stride + tl.program_id(1) * size + half[None]
    angle = row[:, None] * size + half[None]
    a = tl.load(left, mask=present, other=0.0).to(tl.float32)
    b = tl.load(left + size // 2, mask=present, other=0.0).to(tl.float32)
    cos_a, sin_a = tl.load(cos + angle, mask=present, other=0.0), tl.load(sin + angle, mask=present, other=0.0)
    cos_b = tl.load(cos + angle + size // 2, mask=present, other=0.0)
    sin_b = tl.load(sin + angle + size // 2, mask=present, other=0.0)
    tl.store(left, (a * cos_a - b * sin_a).to(heads.dtype.element_ty), mask=present)
    tl.store(left + size // 2, (b * cos_b + a * sin_b).to(heads.dtype.element_ty), mask=present)


def rotate(projected: Tensor, cos: Tensor, sin: Tensor, heads: int) -> None:
    """Rotate the first `heads` heads of `projected` (n, heads and more, head_dim), contiguous, in place by angles (n, head_dim)."""
    count, _, size = projected.shape
    stride = projected.stride(0)
    grid = (triton.cdiv(count, ROWS), heads)
    with torch.cuda.device_of(projected):
        _rotate[grid](projected, cos.contiguous(), sin.contiguous(), count, stride, size=size, rows=ROWS, enable_fp_fusion=True)


@triton.jit
def _activate(gate, up, count, numbers: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * numbers + tl.arange(0, numbers)
    present = place < count
    x = tl.load(gate + place, mask=present, other=0.0).to(tl.float32)
    opened = (x / (1.0 + tl.exp(-x))).to(gate.dtype.element_ty).to(tl.float32)  # rounded as SiLU by itself is
    times = opened * tl.load(up + place, mask=present, other=0.0).to(tl.float32)
    tl.store(gate + place, times.to(gate.dtype.element_ty), mask=present)


def activate(gate: Tensor, up: Tensor) -> Tensor:
    """SiLU of `gate` times `up`, of one shape and contiguous, in the place of `gate`."""
    count = gate.numel()
    with torch.cuda.device_of(gate):
        _activate[(triton.cdiv(count, NUMBERS),)](gate, up, count, numbers=NUMBERS, num_warps=8, enable_fp_fusion=True)
    return gate
