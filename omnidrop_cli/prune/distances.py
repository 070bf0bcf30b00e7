"""Distances between tokens by cosine, with weights and with decay over time. In: embeddings in groups; out: blocks of distances."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from omnidrop_cli import kernels
from omnidrop_cli.model.products import HALF, float32_products
from omnidrop_cli.prune.cosines import inverse_lengths

BLOCK = 1 << 24
"""Most numbers made at once on the way (64 MiB in float32)."""

ALIGNED = 16
"""Lengths of rows of distances are a multiple of it where they can be: GPUs read and store rows of other lengths one number at a time."""


@dataclass(frozen=True)
class Tokens:
    """Tokens of g groups, s in each, ready for `between`.

    Attributes:
        rows: (g, s, d) directions: of length 1, or the embeddings as they are with `scale`.
        scale: (g, s) one over the length of `rows`. Half-precision embeddings are multiplied as they are, with sums in float32: no float32
            copy is kept, and tensor cores can be used without rounding.
        weight: (g, s) factor of the distances to each token.
        when: (g, s) times.
        common: (g, s) x · m - m · m / 2 with `when`: what x shares with all of its group, whose mean is m.
    """

    rows: Tensor
    scale: Tensor | None = None
    weight: Tensor | None = None
    when: Tensor | None = None
    common: Tensor | None = None

    @classmethod
    def of(cls, features: Tensor, token: Tensor, present: Tensor, weight: Tensor | None, when: Tensor | None) -> Tokens:
        """The tokens `token` (g, s) of `features` (n, d), padded where not `present`."""
        inside = token.clamp(max=features.shape[0] - 1)
        rows, scale = features[inside], None
        if features.dtype in HALF:
            scale = inverse_lengths(rows)
        else:
            rows = normalize(rows.float(), dim=-1)
        tokens = cls(rows, scale, None if weight is None else weight.float()[inside], None if when is None else when.float()[inside])
        return tokens if when is None else tokens._with_common(present)

    def _with_common(self, present: Tensor) -> Tokens:
        length = present.float() if self.scale is None else self.scale * present
        blocks = max(1, BLOCK // (self.rows.shape[0] * self.rows.shape[2]))
        pairs = list(zip(length.split(blocks, 1), self.rows.split(blocks, 1), strict=True))
        total = torch.stack([part[:, None] @ rows.float() for part, rows in pairs]).sum(0)
        mean = total / present.sum(1)[:, None, None].clamp(min=1)
        shared = torch.cat([(rows.float() @ mean.transpose(1, 2))[:, :, 0] for _, rows in pairs], dim=1)
        if self.scale is not None:
            shared *= self.scale
        return Tokens(self.rows, self.scale, self.weight, self.when, shared - mean.square().sum(2) / 2)

    def take(self, index: slice | Tensor) -> Tokens:
        """The tokens at `index` of every group."""
        return Tokens(*(None if part is None else part[:, index] for part in self._parts))  # type: ignore[arg-type]

    @property
    def _parts(self) -> tuple[Tensor | None, ...]:
        return self.rows, self.scale, self.weight, self.when, self.common

    @property
    def facts(self) -> Tensor:
        """(1, g, s) float32 scales, or (3, g, s) with times: scales, times, and what is common."""
        scale = torch.ones_like(self.rows[:, :, 0], dtype=torch.float32) if self.scale is None else self.scale
        return scale[None].contiguous() if self.when is None or self.common is None else torch.stack((scale, self.when, self.common))

    @property
    def size(self) -> int:
        return self.rows.shape[1]


def between(first: Tokens, second: Tokens) -> Tensor:
    """(g, k, m) float32 distances from `first` (k in each group) to `second` (m in each), without the weights.

    1 - cos, plus with times (1 - exp(-|time between|)) (x - m) · (y - m), which is x · y - common(x) - common(y).
    """
    cosine = float32_products(first.rows, second.rows.transpose(1, 2))
    if kernels.runs_on(cosine.device):
        from omnidrop_cli.kernels.cosine_distances import to_distances

        return to_distances(cosine, first.facts, second.facts)
    if first.scale is not None and second.scale is not None:
        cosine.mul_(first.scale[:, :, None]).mul_(second.scale[:, None])
    one = torch.ones((), device=cosine.device)
    if first.when is None or second.when is None or first.common is None or second.common is None:
        return torch.sub(one, cosine, out=cosine)
    distance = one - cosine
    own = cosine.sub_(first.common[:, :, None]).sub_(second.common[:, None])
    decay = (first.when[:, :, None] - second.when[:, None]).abs_().neg_().expm1_()
    return torch.addcmul(distance, own, decay, value=-1, out=distance)


def fill(matrix: Tensor, tokens: Tokens) -> None:
    """Write all weighted distances into `matrix` (g, s, s): row i holds those from token i."""
    step = max(1, BLOCK // (matrix.shape[0] * tokens.size))
    for start in range(0, tokens.size, step):
        here = slice(start, start + step)
        block = between(tokens.take(here), tokens)
        matrix[:, here] = block if tokens.weight is None else block.mul_(tokens.weight[:, None])
