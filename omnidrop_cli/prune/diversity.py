"""Diversity of tokens: greedy max-min distance, and density peaks, both by cosine and in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from omnidrop_cli.prune import topk
from omnidrop_cli.prune.groups import Segments

MAX_DISTANCES = 1 << 27
"""Most pairwise distances kept for all picks of a block of groups (512 MiB in float32); beyond, each pick computes its own."""

BLOCK = 1 << 24
"""Most numbers made at once on the way (64 MiB in float32)."""

NEIGHBOURS = 5

Peaks = Literal["paper", "v2", "v1"]


def max_min(
    features: Tensor, groups: Segments, keep_counts: Sequence[int], weight: Tensor | None = None, when: Tensor | None = None
) -> Tensor:
    """Greedy max-min selection: in every group, tokens are picked one by one, each the farthest from those already picked.

    The distance from i to j is (1 - cos) * weight_j (DivPrune; SEATS' winDivPrune, with attention as the weight). With `when`, the part
    of the similarity that exceeds the group's mean decays by e over one unit of time (ours): 1 - cos + (1 - exp(-|when_i - when_j|))
    (x_i - m) · (x_j - m), x of length 1 and m their mean. So a lasting object is picked again, but not the background, which is the mean.
    The first pick is the token whose nearest other is farthest. Groups advance together, one pick a step, in four launches.

    Args:
        features: (n, d) embeddings.
        groups: the group of each token.
        keep_counts: tokens picked of each group.
        weight: (n,) factor of the distances to each token.
        when: (n,) times.

    Returns:
        Ascending int64 indices of the picked tokens.
    """
    n, longest = features.shape[0], max(groups.sizes)
    members = topk.on_device(groups.number, features).sort(stable=True).indices
    starts = [0, *accumulate(groups.sizes)]
    picked = torch.zeros(n + 1, dtype=torch.bool, device=features.device)  # the last place takes the padding
    step = max(1, BLOCK // (longest * max(longest, features.shape[1])))
    for first in range(0, len(groups.sizes), step):
        sizes, target = groups.sizes[first : first + step], keep_counts[first : first + step]
        offset = torch.arange(longest, device=features.device)
        present = offset < topk.on_device(sizes, members)[:, None]
        place = (topk.on_device(starts[first : first + len(sizes)], members)[:, None] + offset).clamp(max=n - 1)
        token = members[place].masked_fill(~present, n)
        picks = _Farthest(features, token, present, weight, when).picks(target)
        picked.index_put_((token.flatten(),), (picks & present).flatten())
    return topk.true_indices(picked[:n], sum(keep_counts))


class _Farthest:
    """Greedy max-min over a block of groups: `token` (g, s) indices into the features, padded where not `present`."""

    def __init__(self, features: Tensor, token: Tensor, present: Tensor, weight: Tensor | None, when: Tensor | None) -> None:
        inside = token.clamp(max=features.shape[0] - 1)
        self.unit = normalize(features[inside].float(), dim=-1)
        self.weight = torch.ones_like(present, dtype=torch.float32) if weight is None else weight.float()[inside]
        self.when = None if when is None else when.float()[inside]
        if when is not None:
            mean = self.unit.mul(present[:, :, None]).sum(1, keepdim=True) / present.sum(1)[:, None, None].clamp(min=1)
            # (x - m) · (y - m) = x · y - common(x) - common(y)
            self.common = (self.unit @ mean.transpose(1, 2))[:, :, 0] - mean.square().sum(2) / 2
        self.present = present
        self.group = torch.arange(token.shape[0], device=token.device)
        size = token.shape[1]
        self.matrix = self._distances((slice(None), slice(None))) if token.shape[0] * size * size <= MAX_DISTANCES else None

    def picks(self, target: Sequence[int]) -> Tensor:
        """(g, s) bool: the first `target[i]` picks of each group."""
        gone = torch.full((self.group.shape[0], 1), float("-inf"), device=self.group.device)
        nearest = self._nearest_other().masked_fill_(~self.present, float("-inf"))
        order: list[Tensor] = []
        for count in range(max(target)):
            pick = nearest.argmax(dim=1, keepdim=True)
            order.append(pick)
            row = self._row(pick)
            # The first pick starts from its own distances: `nearest` so far was only the measure that found it.
            nearest = row.masked_fill(~self.present, float("-inf")) if count == 0 else torch.minimum(nearest, row, out=nearest)
            nearest.scatter_(1, pick, gone)  # stays: nothing is smaller
        return self._first(order, target)

    def _first(self, order: list[Tensor], target: Sequence[int]) -> Tensor:
        """(g, s) bool: of each group's picks in `order` the first `target[i]`. One spare column takes the others and is cut off."""
        groups, size = self.present.shape
        chosen = torch.zeros(groups, size + 1, dtype=torch.bool, device=self.group.device)
        if not order:
            return chosen[:, :size]
        late = torch.arange(len(order), device=self.group.device) >= topk.on_device(target, self.group)[:, None]
        return chosen.scatter_(1, torch.cat(order, dim=1).masked_fill_(late, size), True)[:, :size]

    def _row(self, pick: Tensor) -> Tensor:
        """(g, s) distances from one token `pick` (g, 1) per group to all of its group."""
        if self.matrix is None:
            return self._distances((self.group[:, None], pick))[:, 0]
        if self.matrix.shape[0] == 1:
            return self.matrix[0].index_select(0, pick[0])
        return self.matrix[self.group, pick[:, 0]]

    def _distances(self, at: tuple[Any, Any]) -> Tensor:
        """(g, k, s) weighted distances from the tokens at `at`, k of each group, to all of it."""
        similarity = self.unit[at] @ self.unit.transpose(1, 2)
        distance = 1 - similarity
        if self.when is not None:
            own = similarity.sub_(self.common[at][:, :, None]).sub_(self.common[:, None])
            distance -= own.mul_((self.when[at][:, :, None] - self.when[:, None]).abs_().neg_().expm1_())
        return distance.mul_(self.weight[:, None])

    def _nearest_other(self) -> Tensor:
        groups, size, _ = self.unit.shape
        best = torch.full((groups, size), float("inf"), device=self.unit.device)
        block = max(1, BLOCK // (groups * size))
        for start in range(0, size, block):
            here = slice(start, start + block)
            distances = self._distances((slice(None), here)) if self.matrix is None else self.matrix[:, here]
            rows = torch.arange(start, start + distances.shape[1], device=best.device)
            itself = rows[:, None] == torch.arange(size, device=best.device)
            absent = ~self.present[:, here, None]
            best = torch.minimum(best, distances.masked_fill(itself | absent, float("inf")).amin(dim=1))
        return best


def density_peaks(frames: Tensor, peaks: Peaks = "paper") -> Tensor:
    """(f, s) float32 score of each token of `frames` (f, s, d) as a cluster centre of its frame (DPC-KNN, five neighbours).

    Density times the distance to the nearest denser token; the densest take the distance to the farthest. Tokens are compared as unit
    vectors: raw embeddings are so far apart that every density underflows.
    "paper" (OmniZip 3.3): Euclidean d, density exp(-mean d^2). "v2" (its code since): d = 1 - cos, density exp(-mean d).
    "v1" (its first code, and DASH's): no peaks, minus the mean of the five highest cosines.
    """
    block = max(1, BLOCK // frames.shape[1] ** 2)
    return torch.cat([_peaks(some, peaks) for some in frames.split(block)])


def _peaks(frames: Tensor, peaks: Peaks) -> Tensor:
    size = frames.shape[1]
    if size == 1:
        return torch.zeros(frames.shape[:2], device=frames.device)
    unit = normalize(frames.float(), dim=-1)
    cosine = (unit @ unit.transpose(1, 2)).clamp(-1, 1)
    itself = torch.eye(size, dtype=torch.bool, device=frames.device)
    neighbours = min(NEIGHBOURS, size - 1)
    if peaks == "v1":
        return -cosine.masked_fill(itself, float("-inf")).topk(neighbours, dim=-1).values.mean(dim=-1)
    distance = (2 - 2 * cosine).sqrt() if peaks == "paper" else 1 - cosine
    near = distance.masked_fill(itself, float("inf")).topk(neighbours, dim=-1, largest=False).values
    density = (-(near**2 if peaks == "paper" else near).mean(dim=-1)).exp()
    denser = density[:, None, :] > density[:, :, None]
    to_denser = distance.masked_fill(~denser, float("inf")).amin(dim=-1)
    farthest = distance.masked_fill(itself, 0.0).amax(dim=-1)
    return torch.where(to_denser.isinf(), farthest, to_denser) * density
