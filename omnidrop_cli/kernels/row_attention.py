"""Triton kernels that let one row attend to the buffers of a static cache.

In: projected queries, keys and values of a row, its rotary angles, the buffers, and on the device the row to write. Out: the buffers with
that row, and what its queries attend to, laid out in planes (`row_products`).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

PARTS = 128
"""Most parts that the rows are cut into."""

PROGRAMS = 132
"""Parts of all key heads together, about: more were slower on an H100, which has as many processors."""

BLOCK = 64
"""Rows that a program reads at once."""

LOG2_E = 1.4426950408889634


def rotate_and_write(heads: Tensor, angles: tuple[Tensor, Tensor], keys: Tensor, values: Tensor, row: Tensor) -> None:
    """Rotate the queries in `heads` (queries, keys, values; dh) in place; write its rotated keys, and its values, to a row of the buffers.

    Args:
        angles: cosines and sines (dh,).
        keys: (kv heads, capacity, dh), contiguous; so are `values`.
        row: the row to write, int64 (1,).
    """
    groups, capacity, size = keys.shape
    _rotate[(len(heads),)](
        heads, *angles, keys, values, row, capacity,
        queries=len(heads) - 2 * groups, groups=groups, size=size, num_warps=1, enable_fp_fusion=True,
    )  # fmt: skip


def scratch(heads: int, size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Space for the parts of one attention: sums (heads, parts, dh), largest logits and sums of weights (heads, parts), float32."""
    sums = torch.empty(heads, PARTS, size, dtype=torch.float32, device=device)
    return sums, torch.empty_like(sums[..., 0]), torch.empty_like(sums[..., 0])


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, row: Tensor, y: Tensor, space: tuple[Tensor, Tensor, Tensor], scale: float
) -> None:
    """Write the attention of rotated `queries` (heads, dh) to rows 0 to `row` (1,) of the buffers into `y`, float32 in planes.

    Softmax and sums are float32; weights are rounded to the dtype of the values. Rows behind `row` are not read. `keys`
    and `values` (kv heads, capacity, dh) are contiguous. `space` comes from `scratch`, `scale` multiplies the logits.
    """
    groups, capacity, size = keys.shape
    each = len(queries) // groups
    split = max(2 * BLOCK, triton.cdiv(triton.cdiv(capacity, min(PARTS, PROGRAMS // groups)), BLOCK) * BLOCK)
    _attend[(groups, triton.cdiv(capacity, split))](
        queries, keys, values, row, *space, capacity, split, scale * LOG2_E, each=each, size=size, parts=PARTS, block=BLOCK,
        padded=max(16, triton.next_power_of_2(each)), num_warps=4, enable_fp_fusion=True,
    )  # fmt: skip
    _combine[(len(queries),)](*space, row, y, split, size=size, parts=PARTS, num_warps=4, enable_fp_fusion=True)


@triton.jit(do_not_specialize_on_alignment=["row"])
def _rotate(projected, cos, sin, keys, values, row, capacity, queries: tl.constexpr, groups: tl.constexpr, size: tl.constexpr):
    """Each program: one head of queries, keys or values."""
    head = tl.program_id(0)
    half: tl.constexpr = size // 2
    place = tl.arange(0, half)
    dtype = projected.dtype.element_ty
    source = projected + head * size + place
    left = tl.load(source)
    right = tl.load(source + half)
    if head < queries + groups:
        a = left.to(tl.float32)
        b = right.to(tl.float32)
        # Rounded where torch rounds: the product with the cosine, then the sum.
        first = (a * tl.load(cos + place).to(tl.float32)).to(dtype).to(tl.float32)
        second = (b * tl.load(cos + half + place).to(tl.float32)).to(dtype).to(tl.float32)
        left = (first - b * tl.load(sin + place).to(tl.float32)).to(dtype)
        right = (second + a * tl.load(sin + half + place).to(tl.float32)).to(dtype)
    target = source
    number = tl.load(row)
    if head >= queries + groups:
        target = values + ((head - queries - groups) * capacity + number) * size + place
    elif head >= queries:
        target = keys + ((head - queries) * capacity + number) * size + place
    tl.store(target, left)
    tl.store(target + half, right)


@triton.jit(do_not_specialize_on_alignment=["row"])
def _attend(
    queries, keys, values, row, sums, peaks, totals, capacity, split, scale,
    each: tl.constexpr, size: tl.constexpr, parts: tl.constexpr, block: tl.constexpr, padded: tl.constexpr,
):  # fmt: skip
    """Each program: `split` rows of one key head, with the `each` query heads that share it. Logits are base 2."""
    group = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    length = tl.load(row).to(tl.int32) + 1
    start = part * split
    if start < length:
        stop = tl.minimum(start + split, length)
        head = tl.arange(0, padded)
        place = tl.arange(0, size)
        within = tl.arange(0, block)
        real = head < each
        head_of_all = group * each + head
        query = tl.load(queries + head_of_all[:, None] * size + place[None, :], mask=real[:, None], other=0)
        peak = tl.full((padded,), float("-inf"), tl.float32)
        total = tl.zeros((padded,), tl.float32)
        mixed = tl.zeros((padded, size), tl.float32)
        keys += group * capacity * size
        values += group * capacity * size
        for begin in range(start, stop, block):
            rows = begin + within
            inside = rows < stop
            offsets = rows[:, None] * size + place[None, :]
            key = tl.load(keys + offsets, mask=inside[:, None], other=0)
            value = tl.load(values + offsets, mask=inside[:, None], other=0)
            scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
            scores = tl.where(inside[None, :], scores, float("-inf"))
            higher = tl.maximum(peak, tl.max(scores, 1))
            shrink = tl.exp2(peak - higher)
            weights = tl.exp2(scores - higher[:, None])
            total = total * shrink + tl.sum(weights, 1)
            mixed = mixed * shrink[:, None] + tl.dot(weights.to(value.dtype), value, input_precision="ieee")
            peak = higher
        at = head_of_all * parts + part
        tl.store(sums + at[:, None] * size + place[None, :], mixed, mask=real[:, None])
        tl.store(peaks + at, peak, mask=real)
        tl.store(totals + at, total, mask=real)


@triton.jit(do_not_specialize_on_alignment=["row"])
def _combine(sums, peaks, totals, row, y, split, size: tl.constexpr, parts: tl.constexpr):
    """Each program: one query head, from the parts that have rows."""
    head = tl.program_id(0)
    used = tl.load(row).to(tl.int32) // split + 1
    part = tl.arange(0, parts)
    high = tl.load(peaks + head * parts + part, mask=part < used, other=float("-inf"))
    peak = tl.max(high, 0)
    total = tl.sum(tl.exp2(high - peak) * tl.load(totals + head * parts + part, mask=part < used, other=0), 0)
    place = tl.arange(0, size)
    few = tl.arange(0, 16)
    mixed = tl.zeros((size,), tl.float32)
    for begin in range(0, used, 16):
        number = begin + few
        inside = number < used
        at = head * parts + number
        weight = tl.exp2(tl.load(peaks + at, mask=inside, other=float("-inf")) - peak)
        mixed += tl.sum(weight[:, None] * tl.load(sums + at[:, None] * size + place[None, :], mask=inside[:, None], other=0), 0)
    index = head * size + place
    whole = tl.num_programs(0) * size
    tl.store(y + (index % 8) * (whole // 8) + index // 8, mixed / total)
