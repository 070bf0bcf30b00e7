"""Distances from products of vectors in one kernel: what PyTorch does in up to ten passes over them."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS = 16, 256
"""Distances of a program."""


@triton.jit
def _finish(products, of_rows, of_columns, count, counts, timed: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr):
    group, groups = tl.program_id(1), tl.num_programs(1)
    across = tl.cdiv(counts, columns)
    row = tl.program_id(0) // across * rows + tl.arange(0, rows)
    column = tl.program_id(0) % across * columns + tl.arange(0, columns)
    has_row, has_column = row < count, column < counts
    place = products + (group * count + row).to(tl.int64)[:, None] * counts + column[None]
    inside = has_row[:, None] & has_column[None]
    of_row, of_column = of_rows + group * count + row, of_columns + group * counts + column
    scale, scales = tl.load(of_row, mask=has_row, other=0.0), tl.load(of_column, mask=has_column, other=0.0)
    cosine = tl.load(place, mask=inside, other=0.0) * scale[:, None] * scales[None]
    distance = 1.0 - cosine
    if timed:
        here, there = groups * count, groups * counts
        when, whens = tl.load(of_row + here, mask=has_row, other=0.0), tl.load(of_column + there, mask=has_column, other=0.0)
        common, commons = tl.load(of_row + 2 * here, mask=has_row, other=0.0), tl.load(of_column + 2 * there, mask=has_column, other=0.0)
        own = cosine - common[:, None] - commons[None]
        distance -= own * (tl.exp(-tl.abs(when[:, None] - whens[None])) - 1.0)
    tl.store(place, distance, mask=inside)


def to_distances(products: Tensor, of_rows: Tensor, of_columns: Tensor) -> Tensor:
    """1 - cos in the place of `products` (g, k, m), contiguous float32, plus what time adds.

    Args:
        of_rows: (1, g, k) contiguous float32: one over the lengths of the vectors that the rows belong to. Or (3, g, k): with it their
            times and what they share with all, as in `prune.distances.between`.
        of_columns: (1, g, m) or (3, g, m), likewise.
    """
    groups, count, counts = products.shape
    tiles = triton.cdiv(count, ROWS) * triton.cdiv(counts, COLUMNS)
    with torch.cuda.device_of(products):
        _finish[(tiles, groups)](
            products, of_rows, of_columns, count, counts, timed=len(of_rows) == 3, rows=ROWS, columns=COLUMNS, enable_fp_fusion=True
        )
    return products
