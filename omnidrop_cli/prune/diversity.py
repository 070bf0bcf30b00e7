"""Diversity of tokens: greedy max-min distance, and density peaks, both by cosine and in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

from omnidrop_cli.model.cuda_capture import capture_on
from omnidrop_cli.model.products import float32_products
from omnidrop_cli.prune import distances, topk
from omnidrop_cli.prune.cosines import inverse_lengths
from omnidrop_cli.prune.distances import Tokens
from omnidrop_cli.prune.groups import Segments
from omnidrop_cli.prune.lazy_greedy import lazy_greedy
from omnidrop_cli.prune.pick_loop import PickLoop

MAX_DISTANCES = 1 << 27
"""Most pairwise distances kept at once (512 MiB in float32); a larger group is selected from in blocks of candidates."""

NEIGHBOURS = 5

Peaks = Literal["paper", "v2", "v1"]


def max_min(
    features: Tensor, groups: Segments, keep_counts: Sequence[int], weight: Tensor | None = None, when: Tensor | None = None
) -> Tensor:
    """Greedy max-min selection: in every group, tokens are picked one by one, each the farthest from those already picked.

    The distance from i to j is (1 - cos) * weight_j (DivPrune; SEATS' winDivPrune, with attention as the weight). With `when`, the part
    of the similarity that exceeds the group's mean decays by e over one unit of time (ours): 1 - cos + (1 - exp(-|when_i - when_j|))
    (x_i - m) · (x_j - m), x of length 1 and m their mean. So a lasting object is picked again, but not the background, which is the mean.
    The first pick is the token whose nearest other is farthest; among equals the lowest index is picked. Groups advance together.

    Args:
        features: (n, d) embeddings.
        groups: the group of each token.
        keep_counts: tokens picked of each group.
        weight: (n,) factor of the distances to each token, above 0.
        when: (n,) times.

    Returns:
        Ascending int64 indices of the picked tokens.
    """
    n = features.shape[0]
    members = topk.on_device(groups.number, features).sort(stable=True).indices
    starts = [0, *accumulate(groups.sizes)]
    picked = torch.zeros(n + 1, dtype=torch.bool, device=features.device)  # the last place takes the padding
    step = max(1, MAX_DISTANCES // max(groups.sizes) ** 2)
    for first in range(0, len(groups.sizes), step):
        sizes, target = groups.sizes[first : first + step], keep_counts[first : first + step]
        if not any(target):
            continue
        lazy = len(sizes) * max(sizes) ** 2 > MAX_DISTANCES
        width = max(sizes) if lazy else -(-max(sizes) // distances.ALIGNED) * distances.ALIGNED
        offset = torch.arange(width, device=features.device)
        present = offset < topk.on_device(sizes, members)[:, None]
        place = (topk.on_device(starts[first : first + len(sizes)], members)[:, None] + offset).clamp(max=n - 1)
        token = members[place].masked_fill(~present, n)
        if lazy:
            order = lazy_greedy(Tokens.of(features, token, present, weight, when), target[0])
        else:
            order = _greedy(features, token, present, max(target), weight, when)
        late = torch.arange(order.shape[1], device=order.device) >= topk.on_device(target, order)[:, None]
        picked.index_fill_(0, token.gather(1, order).masked_fill_(late, n).flatten(), True)
    return topk.true_indices(picked[:n], sum(keep_counts))


def max_min_from(first: Tensor, features: Tensor, keep: int, weight: Tensor) -> Tensor:
    """`max_min` of one group, with the first pick given.

    Args:
        first: (1,) int64 index of the first pick.
        features: (n, d) embeddings.
        keep: tokens picked, at least 1.
        weight: (n,) factor of the distances to each token, above 0.

    Returns:
        (keep,) ascending int64 indices of the picked tokens.
    """
    n = features.shape[0]
    token = torch.arange(n, device=features.device)[None]
    present = torch.ones_like(token, dtype=torch.bool)
    if n**2 > MAX_DISTANCES:
        order = lazy_greedy(Tokens.of(features, token, present, weight, None), keep, first)
    else:
        order = _greedy(features, token, present, keep, weight, None, first[None])
    return order[0].sort().values


def _greedy(
    features: Tensor,
    token: Tensor,
    present: Tensor,
    count: int,
    weight: Tensor | None,
    when: Tensor | None,
    first_pick: Tensor | None = None,
) -> Tensor:
    """(g, count) picks in order, as indices into each group's `token` (g, s), padded where not `present`, from `first_pick` (g, 1) on."""
    groups, size = token.shape
    matrix = torch.empty(groups, size, size, device=features.device)
    step = max(1, distances.BLOCK // (size * max(size, features.shape[1])))
    for part in (slice(first, first + step) for first in range(0, groups, step)):
        distances.fill(matrix[part], Tokens.of(features, token[part], present[part], weight, when))
    diagonal = matrix.diagonal(dim1=1, dim2=2)
    diagonal.fill_(float("inf"))
    matrix.masked_fill_(~present[:, :, None], float("inf"))  # no token has padding for its nearest other
    if first_pick is None:
        first_pick = matrix.amin(dim=1).masked_fill_(~present, float("-inf")).argmax(dim=1, keepdim=True)
    diagonal.fill_(float("-inf"))
    loop = PickLoop(matrix, capture_on(features.device))
    loop.start(first_pick)
    loop.nearest.masked_fill_(~present, float("-inf"))
    picks, _ = loop.run(count - 1)
    return torch.cat([first_pick, picks.T], dim=1)


def density_peaks(frames: Tensor, peaks: Peaks = "paper") -> Tensor:
    """(f, s) float32 score of each token of `frames` (f, s, d) as a cluster centre of its frame (DPC-KNN, five neighbours).

    Density times the distance to the nearest denser token; the densest take the distance to the farthest. Tokens are compared as unit
    vectors: raw embeddings are so far apart that every density underflows.
    "paper" (OmniZip 3.3): Euclidean d, density exp(-mean d^2). "v2" (its code since): d = 1 - cos, density exp(-mean d).
    "v1" (its first code, and DASH's): no peaks, minus the mean of the five highest cosines.
    """
    block = max(1, distances.BLOCK // (frames.shape[1] * max(frames.shape[1:])))
    return torch.cat([_peaks(some, peaks) for some in frames.split(block)])


def _peaks(frames: Tensor, peaks: Peaks) -> Tensor:
    size = frames.shape[1]
    if size == 1:
        return torch.zeros(frames.shape[:2], device=frames.device)
    scale = inverse_lengths(frames)
    cosine = float32_products(frames, frames.transpose(1, 2)).mul_(scale[:, :, None]).mul_(scale[:, None]).clamp_(-1, 1)
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
