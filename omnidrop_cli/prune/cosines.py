"""Cosines between tokens without a copy of them in float32. In: embeddings as they are; out: blocks of float32 cosines.

Half precision is multiplied as it is, with sums in float32 (`products.py`), and divided by both lengths afterwards: products are exact, and
run on tensor cores, where float32 matrices would not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from omnidrop_cli.model.products import float32_products

BLOCK = 1 << 22
"""Most values of a float32 copy of a part of the embeddings (16 MiB)."""


def inverse_lengths(rows: Tensor) -> Tensor:
    """(..., n) float32, one over the length of each of `rows` (..., n, d)."""
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=-1, dtype=torch.float32)
    return lengths.clamp_(min=1e-12).reciprocal_()


@dataclass(frozen=True, slots=True, eq=False)
class Directions:
    """Embeddings whose directions are compared.

    Attributes:
        rows: (n, d) embeddings, of any length.
        scale: (n,) float32, one over the length of each.
    """

    rows: Tensor
    scale: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Directions:
        """The directions of `rows` (n, d). A zero vector has none; its cosines are 0."""
        return cls(rows, inverse_lengths(rows))

    def __getitem__(self, index: slice | Tensor) -> Directions:
        """The directions of the rows at `index`."""
        return Directions(self.rows[index], self.scale[index])

    def cosines(self, others: Directions) -> Tensor:
        """(n, m) float32 cosines with `others` (m)."""
        products = float32_products(self.rows[None], others.rows.T[None])[0]
        return products.mul_(self.scale[:, None]).mul_(others.scale)

    def nearest(self, others: Directions, most: int) -> tuple[Tensor, Tensor]:
        """(n,) highest cosine of each with any of `others`, at least one, and its index there. At most `most` cosines are held at once."""
        count, step = self.scale.shape[0], max(1, most // others.scale.shape[0])
        best = [self[start : start + step].cosines(others).max(dim=1) for start in range(0, count, step)]
        return torch.cat([b.values for b in best]), torch.cat([b.indices for b in best])

    def highest(self, others: Directions, most: int) -> Tensor:
        """(n,) highest cosine of each with any of `others`, at least one. At most `most` cosines are held at once, in square parts."""
        step = math.isqrt(most)
        parts = [self.nearest(others[start : start + step], most)[0] for start in range(0, others.scale.shape[0], step)]
        return parts[0] if len(parts) == 1 else torch.stack(parts).amax(dim=0)

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Float32 unit vectors in parts of at most `BLOCK` values, each with its place."""
        step = max(1, BLOCK // self.rows.shape[1])
        for start in range(0, self.rows.shape[0], step):
            some = slice(start, start + step)
            yield some, self.rows[some].float() * self.scale[some, None]
