"""OmniPack's geometry: density-peak centres, soft merging and relevance-weighted max-min, in blocks of bounded memory.

Distances are 1 - cosine plus a weighted, row-wise min-max normalised distance of coordinates. They are never held for all pairs: memory
grows with the number of tokens and not with its square.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

BLOCK = 1 << 24
"""Most distances held at once (64 MiB in float32)."""

NEIGHBOURS = 7
COORDINATE_WEIGHT = 0.20
SALIENCE_WEIGHT = 0.35


def minmax(x: Tensor) -> Tensor:
    """`x` scaled to [0, 1]."""
    return (x - x.amin()) / (x.amax() - x.amin() + 1e-6)


def _apart(some: Tensor, others: Tensor) -> Tensor:
    """(b, n) Euclidean distances of coordinates, each row scaled to [0, 1]."""
    distance = torch.cdist(some, others, compute_mode="donot_use_mm_for_euclid_dist")
    least, most = distance.amin(dim=1, keepdim=True), distance.amax(dim=1, keepdim=True)
    return (distance - least) / (most - least + 1e-6)


def centre_scores(features: Tensor, coordinates: Tensor, salience: Tensor) -> Tensor:
    """(n,) score of each token as a cluster centre (DPC-KNN, seven neighbours): density times the distance to the nearest denser token.

    Args:
        features: (n, d).
        coordinates: (n, c) in [0, 1].
        salience: (n,); a salient token counts as denser.
    """
    unit, n = normalize(features.float(), dim=-1), features.shape[0]
    if n == 1:
        return torch.ones(1, device=features.device)
    rows = torch.arange(n, device=features.device)
    step = max(1, BLOCK // n)

    def distances(start: int) -> Tensor:
        here = slice(start, start + step)
        return (unit[here] @ unit.T).neg_().add_(1).add_(_apart(coordinates[here], coordinates), alpha=COORDINATE_WEIGHT)

    spread, farthest = [], []
    for start in range(0, n, step):
        distance = distances(start)
        itself = rows[start : start + step, None] == rows
        near = distance.masked_fill(itself, float("inf")).topk(min(NEIGHBOURS, n - 1), dim=1, largest=False).values
        spread.append(near.square().mean(dim=1))
        farthest.append(distance.masked_fill_(itself, 0.0).amax(dim=1))
    density = torch.cat(spread).neg().exp() * (1 + SALIENCE_WEIGHT * minmax(salience))
    to_denser = [
        distances(start).masked_fill_(density <= density[start : start + step, None], float("inf")).amin(dim=1)
        for start in range(0, n, step)
    ]
    delta = torch.cat(to_denser)
    return density * torch.where(delta.isinf(), torch.cat(farthest), delta)


def merge_into_kept(
    features: Tensor, kept: Tensor, dropped: Tensor, coordinates: Tensor, salience: Tensor, *, weight: float, centre: float
) -> Tensor:
    """(k, d) embeddings of the `kept` tokens after each of the `dropped` was merged into the most similar of them.

    A dropped token goes to the maximum of cosine - `weight` * distance + 0.1 * salience of the kept token, and weighs 0.5 + 0.5 times its
    salience. `centre` is the share of a kept token's own embedding in the result, the rest being the weighted mean of its cluster.
    """
    own = features[kept].float()
    if not kept.shape[0] or not dropped.shape[0]:
        return own
    unit = normalize(features.float(), dim=-1)
    bonus, step = 0.1 * minmax(salience[kept]), max(1, BLOCK // kept.shape[0])
    targets = [
        (unit[some] @ unit[kept].T - weight * _apart(coordinates[some], coordinates[kept]) + bonus).argmax(dim=1)
        for some in dropped.split(step)
    ]
    mean = _weighted_mean(own, features[dropped].float(), torch.cat(targets), 0.5 + 0.5 * minmax(salience[dropped]))
    return centre * own + (1 - centre) * mean


def relevant_and_diverse(features: Tensor, relevance: Tensor, keep: int) -> Tensor:
    """(keep,) ascending indices: the most relevant token, then greedily the largest distance to the picked times 1 + relevance."""
    unit, factor = normalize(features.float(), dim=-1), 1 + minmax(relevance)
    gone = torch.full((1,), float("-inf"), device=features.device)
    pick = relevance.argmax(dim=0, keepdim=True)
    order, nearest = [pick], torch.full_like(factor, float("inf"))
    for _ in range(1, keep):
        nearest = torch.minimum(nearest, 1 - unit @ unit.index_select(0, pick)[0]).scatter_(0, pick, gone)
        pick = (nearest * factor).argmax(dim=0, keepdim=True)
        order.append(pick)
    return torch.cat(order)[:keep].sort().values


def merge_by_similarity(features: Tensor, kept: Tensor, dropped: Tensor, relevance: Tensor) -> Tensor:
    """(k, d) states of the `kept` tokens after each dropped one was merged into the most similar, weighted by similarity and relevance."""
    own = features[kept].float()
    if not kept.shape[0] or not dropped.shape[0]:
        return own
    unit = normalize(features.float(), dim=-1)
    best = [(unit[some] @ unit[kept].T).max(dim=1) for some in dropped.split(max(1, BLOCK // kept.shape[0]))]
    similarity = torch.cat([part.values for part in best])
    weights = ((similarity + 1) / 2).clamp(0, 1).square() * (0.5 + 0.5 * minmax(relevance[dropped]))
    return _weighted_mean(own, features[dropped].float(), torch.cat([part.indices for part in best]), weights)


def _weighted_mean(own: Tensor, others: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """(k, d) mean of each own vector (weight 1) and the `others` assigned to it."""
    total = own.index_add(0, target, others * weights[:, None])
    return total / torch.ones_like(own[:, 0]).index_add(0, target, weights)[:, None]
