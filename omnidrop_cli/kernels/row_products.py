"""Triton kernels for the products of one row with NF4 matrices of bitsandbytes, and for the norm in front of them.

In: a row, packed weights. Out: the products, with bias, residual or activation.

Rows that a product reads are laid out in planes: value i of k is at (i % 8) * (k / 8) + i // 8. A 32-bit word holds eight weights, and a
thread loads whole words, several at once: their first values lie side by side then, and their second ones. The kernels that make such a row
write it in that order, in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from omnidrop_cli.kernels.nf4_lookup import TYPES, codes_of, looked_up, matrix_of, scales_of
from omnidrop_cli.kernels.nf4_weights import NF4Weights


class Tiling(NamedTuple):
    """How products are spread: rows of the matrix in a program, blocks of 64 weights of each that it reads at once, warps."""

    rows: int
    blocks: int
    warps: int


SHORT, LONG, GATED = Tiling(2, 16, 1), Tiling(4, 32, 4), Tiling(2, 8, 1)
"""Fastest on an H100 for rows of 3,584 weights, of 18,944, and for both branches of an MLP of 3,584."""

LONG_ROW = 8192


def planes(x: Tensor) -> Tensor:
    """`x` (k,) in the order and the dtype in which products read it."""
    return x.float().view(-1, 8).t().reshape(-1)


def products(x: Tensor, y: Tensor, weights: Sequence[NF4Weights], residual: Tensor | None = None, tiling: Tiling | None = None) -> None:
    """Write the products of `x` (k,), in planes, with each of `weights` into `y`, one behind the other; `residual` is added.

    Sums are float32; they are rounded to the dtype of `y` with their bias, and again with the residual, which may be `y` itself.
    """
    first, sizes = weights[0], tuple(one.n for one in weights)
    tiling = tiling or (SHORT if first.k < LONG_ROW else LONG)
    _products[(sum(triton.cdiv(size, tiling.rows) for size in sizes),)](
        x, y, residual, codes_of(first), tuple(matrix_of(one) for one in weights), sizes,
        k=first.k, rows=tiling.rows, width=tiling.blocks, shuffle=x.is_cuda,
        nested=first.nested is not None, biased=first.bias is not None, num_warps=tiling.warps, enable_fp_fusion=True,
    )  # fmt: skip


def gated(x: Tensor, y: Tensor, gate: NF4Weights, up: NF4Weights, dtype: torch.dtype, tiling: Tiling = GATED) -> None:
    """Write SiLU of `x` times `gate` times `x` times `up` into `y` (n,), both in planes. Each product is rounded to `dtype`, as is `y`."""
    _gated[(triton.cdiv(gate.n, tiling.rows),)](
        x, y, codes_of(gate), matrix_of(gate), matrix_of(up), gate.n,
        k=gate.k, rows=tiling.rows, width=tiling.blocks, shuffle=x.is_cuda,
        nested=gate.nested is not None, dtype=TYPES[dtype], num_warps=tiling.warps, enable_fp_fusion=True,
    )  # fmt: skip


def norm(x: Tensor, weight: Tensor, epsilon: float, y: Tensor) -> None:
    """Write the RMS norm of `x` (k,) into `y` in planes, rounded to the dtype of `x`."""
    size = x.shape[0]
    _norm[(1,)](x, weight, y, epsilon, size=size, block=triton.next_power_of_2(size), num_warps=4, enable_fp_fusion=True)


@triton.jit
def _weighed(words, inputs, code, shuffle: tl.constexpr):
    """Sum over the eight weights of each word of code value times input, without the scale."""
    values = looked_up(words, code, shuffle)
    total = values[0] * inputs[0]
    for j in tl.static_range(1, 8):
        total += values[j] * inputs[j]
    return total


@triton.jit
def _sums(
    x, codes, matrices, first, last,
    k: tl.constexpr, rows: tl.constexpr, width: tl.constexpr, shuffle: tl.constexpr, nested: tl.constexpr,
):  # fmt: skip
    """Products of `x` with `rows` rows from `first` on, none after `last`, of each of `matrices`: a tuple of scalars, matrix by matrix."""
    count: tl.constexpr = k // 64
    within = tl.arange(0, 8)[None, :]
    offsets = ()
    sums = ()
    for m in tl.static_range(len(matrices)):
        offsets += ((tl.load(matrices[m][3]) if nested else 0.0),)
        for _ in tl.static_range(rows):
            sums += (tl.zeros((width, 8), tl.float32),)
    for start in range(0, count, width):
        block = start + tl.arange(0, width)
        mask = block < count
        place = block[:, None] * 8 + within
        words = ()
        scales = ()
        for m in tl.static_range(len(matrices)):
            for r in tl.static_range(rows):
                row = tl.minimum(first + r, last)
                words += (tl.load(matrices[m][0] + row * (k // 8) + place, mask=mask[:, None], other=0),)
                scales += (scales_of(matrices[m][1], matrices[m][2], offsets[m], codes[1], row * count + block, mask, nested),)
        inputs = ()
        for j in tl.static_range(8):
            inputs += (tl.load(x + j * (k // 8) + place, mask=mask[:, None], other=0).to(tl.float32),)
        longer = ()
        for i in tl.static_range(len(matrices) * rows):
            longer += (sums[i] + _weighed(words[i], inputs, codes[0], shuffle) * scales[i][:, None],)
        sums = longer
    results = ()
    for i in tl.static_range(len(matrices) * rows):
        results += (tl.sum(tl.sum(sums[i], 1), 0),)
    return results


@triton.jit
def _products(
    x, y, residual, codes, matrices, sizes,
    k: tl.constexpr, rows: tl.constexpr, width: tl.constexpr, shuffle: tl.constexpr, nested: tl.constexpr, biased: tl.constexpr,
):  # fmt: skip
    """Each program: products of `x` with `rows` rows of the one of `matrices` that it belongs to."""
    program = tl.program_id(0)
    words, scales, outer, offset, bias = matrices[0]
    size = sizes[0]
    begin = 0  # first program of the matrix
    base = 0  # where its results begin
    passed = tl.cdiv(sizes[0], rows)
    results = sizes[0]
    for m in tl.static_range(1, len(matrices)):
        if program >= passed:
            words, scales, outer, offset, bias = matrices[m]
            size = sizes[m]
            begin = passed
            base = results
        passed += tl.cdiv(sizes[m], rows)
        results += sizes[m]
    first = (program - begin) * rows
    sums = _sums(x, codes, ((words, scales, outer, offset),), first, size - 1, k, rows, width, shuffle, nested)
    for r in tl.static_range(rows):
        row = first + r
        if row < size:
            value = sums[r]
            if biased:
                value += tl.load(bias + row).to(tl.float32)
            value = value.to(y.dtype.element_ty)
            if residual is not None:
                value = (value.to(tl.float32) + tl.load(residual + row).to(tl.float32)).to(y.dtype.element_ty)
            tl.store(y + base + row, value)


@triton.jit
def _gated(
    x, y, codes, gate, up, size,
    k: tl.constexpr, rows: tl.constexpr, width: tl.constexpr, shuffle: tl.constexpr, nested: tl.constexpr, dtype: tl.constexpr,
):  # fmt: skip
    """Each program: SiLU of `rows` products with `gate` times those with `up`."""
    first = tl.program_id(0) * rows
    sums = _sums(x, codes, (gate, up), first, size - 1, k, rows, width, shuffle, nested)
    for r in tl.static_range(rows):
        row = first + r
        if row < size:
            opened = sums[r].to(dtype).to(tl.float32)
            opened = (opened / (1 + tl.exp(-opened))).to(dtype).to(tl.float32)
            value = (opened * sums[rows + r].to(dtype).to(tl.float32)).to(dtype)
            tl.store(y + (row % 8) * (size // 8) + row // 8, value.to(tl.float32))


@triton.jit
def _norm(x, weight, y, epsilon, size: tl.constexpr, block: tl.constexpr):
    place = tl.arange(0, block)
    inside = place < size
    row = tl.load(x + place, mask=inside, other=0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(row * row, 0) / size + epsilon)
    normed = row * scale * tl.load(weight + place, mask=inside, other=0).to(tl.float32)
    tl.store(y + (place % 8) * (size // 8) + place // 8, normed.to(x.dtype.element_ty).to(tl.float32), mask=inside)
