"""OmniPack's geometry: density-peak centres, soft merging and relevance-weighted max-min, in blocks of bounded memory.

Distances are 1 - cosine plus a weighted, row-wise min-max normalised distance of coordinates. They are never held for all pairs, and no
float32 copy of all features is made: memory grows with the kept tokens and not with the square of all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from omnidrop_cli.prune import diversity
from omnidrop_cli.prune.cosines import Directions

BLOCK = 1 << 24
"""Most distances in one tensor (64 MiB in float32); three such tensors live at once."""

NEIGHBOURS = 7
COORDINATE_WEIGHT = 0.20
SALIENCE_WEIGHT = 0.35


def minmax(x: Tensor) -> Tensor:
    """`x` scaled to [0, 1]."""
    return (x - x.amin()) / (x.amax() - x.amin() + 1e-6)


def centre_scores(features: Tensor, among: Tensor, coordinates: Tensor, salience: Tensor) -> Tensor:
    """(m,) score of each token as a cluster centre (DPC-KNN, seven neighbours): density times the distance to the nearest denser token.

    The densest tokens take the distance to the farthest one. Distances come in square tiles; the second pass visits tokens by falling
    density, so that it needs only the tiles below the diagonal.

    Args:
        features: (n, d).
        among: (m,) indices of the tokens that are compared.
        coordinates: (n, c) in [0, 1].
        salience: (n,); a salient token counts as denser.
    """
    m = among.shape[0]
    if m == 1:
        return torch.ones(1, device=features.device)
    tiles = _Tiles.of(features, among, coordinates[among])
    spread, farthest = [], []
    for rows in tiles.slices():
        near, far, distances = [], [], tiles.distances_of(rows)
        for columns in tiles.slices():
            distance = distances(columns)
            if rows == columns:
                distance.fill_diagonal_(float("inf"))
            near.append(distance.topk(min(NEIGHBOURS, distance.shape[1]), dim=1, largest=False).values)
            if rows == columns:
                distance.fill_diagonal_(0.0)
            far.append(distance.amax(dim=1))
        nearest = torch.cat(near, dim=1).topk(min(NEIGHBOURS, m - 1), dim=1, largest=False).values
        spread.append(nearest.square().mean(dim=1))
        farthest.append(torch.stack(far).amax(dim=0))
    density = torch.cat(spread).neg().exp() * (1 + SALIENCE_WEIGHT * minmax(salience[among]))
    order = density.sort(descending=True, stable=True).indices
    delta = torch.empty_like(density).scatter(0, order, tiles.ordered(order).nearest_before(density[order]))
    return density * torch.where(delta.isinf(), torch.cat(farthest), delta)


@dataclass(frozen=True)
class _Tiles:
    """Distances between tokens, in tiles of at most `BLOCK`: 1 - cosine plus the distance of coordinates over the row's largest.

    Attributes:
        directions: of all n tokens.
        token: (m,) indices into them.
        places: (m, c) coordinates.
        reach: (m,) largest distance of each token's coordinates to those of any other, plus 1e-6.
    """

    directions: Directions
    token: Tensor
    places: Tensor
    reach: Tensor

    @classmethod
    def of(cls, features: Tensor, token: Tensor, places: Tensor) -> _Tiles:
        step = max(1, BLOCK // places.shape[0])
        reach = torch.cat([_squared(some, places).amax(dim=1) for some in places.split(step)]).sqrt_().add_(1e-6)
        return cls(Directions.of(features), token, places, reach)

    def ordered(self, order: Tensor) -> _Tiles:
        """The same distances with the tokens in another order."""
        return _Tiles(self.directions, self.token[order], self.places[order], self.reach[order])

    def slices(self) -> list[slice]:
        """Consecutive parts of the tokens; two of them make a tile."""
        m, step = self.token.shape[0], max(1, math.isqrt(BLOCK))
        return [slice(start, min(start + step, m)) for start in range(0, m, step)]

    def distances_of(self, rows: slice) -> Callable[[slice], Tensor]:
        """What gives the (r, c) distances from the tokens of `rows` to those of a slice."""
        own = self.directions[self.token[rows]]
        opposite = Directions(own.rows, -own.scale)

        def distances(columns: slice) -> Tensor:
            apart = _squared(self.places[rows], self.places[columns]).sqrt_().div_(self.reach[rows, None])
            others = own if columns == rows else self.directions[self.token[columns]]
            return opposite.cosines(others).add_(1).add_(apart, alpha=COORDINATE_WEIGHT)

        return distances

    def nearest_before(self, density: Tensor) -> Tensor:
        """(m,) distance of each token to the nearest one of higher `density` (m,), which falls; infinite where there is none."""
        parts, slices = [], self.slices()
        for number, rows in enumerate(slices):
            distances = self.distances_of(rows)
            best = [
                distances(columns).masked_fill_(density[columns] <= density[rows, None], float("inf")).amin(dim=1)
                for columns in slices[: number + 1]
            ]
            parts.append(torch.stack(best).amin(dim=0))
        return torch.cat(parts)


def _squared(some: Tensor, others: Tensor) -> Tensor:
    """(r, c) squared Euclidean distances of coordinates, one coordinate after another.

    On a GPU `torch.cdist` has a thread block for every pair, which is slow for one to three coordinates.
    """
    total = (some[:, :1] - others[:, 0]).square_()
    for axis in range(1, some.shape[1]):
        apart = some[:, axis : axis + 1] - others[:, axis]
        total.addcmul_(apart, apart)
    return total


def _apart(some: Tensor, others: Tensor) -> Tensor:
    """(r, c) Euclidean distances of coordinates, each row scaled to [0, 1]."""
    distance = _squared(some, others).sqrt_()
    least, most = distance.amin(dim=1, keepdim=True), distance.amax(dim=1, keepdim=True)
    return distance.sub_(least).div_(most - least + 1e-6)


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
    bonus, weights = 0.1 * minmax(salience[kept]), 0.5 + 0.5 * minmax(salience[dropped])

    def assign(similarity: Tensor, some: slice) -> tuple[Tensor, Tensor]:
        apart = _apart(coordinates[dropped[some]], coordinates[kept])
        return similarity.sub_(apart, alpha=weight).add_(bonus).argmax(dim=1), weights[some]

    return _merged(features, kept, own, dropped, assign).mul_(1 - centre).add_(own, alpha=centre)


def relevant_and_diverse(features: Tensor, relevance: Tensor, keep: int) -> Tensor:
    """(keep,) ascending indices: the most relevant token, then greedily the largest distance to the picked times 1 + relevance."""
    return diversity.max_min_from(relevance.argmax(dim=0, keepdim=True), features, keep, 1 + minmax(relevance))


def merge_by_similarity(features: Tensor, kept: Tensor, dropped: Tensor, relevance: Tensor) -> Tensor:
    """(k, d) states of the `kept` tokens after each dropped one was merged into the most similar, weighted by similarity and relevance."""
    own = features[kept].float()
    if not kept.shape[0] or not dropped.shape[0]:
        return own
    weights = 0.5 + 0.5 * minmax(relevance[dropped])

    def assign(similarity: Tensor, some: slice) -> tuple[Tensor, Tensor]:
        best = similarity.max(dim=1)
        return best.indices, ((best.values + 1) / 2).clamp(0, 1).square() * weights[some]

    return _merged(features, kept, own, dropped, assign)


def _merged(
    features: Tensor, kept: Tensor, own: Tensor, dropped: Tensor, assign: Callable[[Tensor, slice], tuple[Tensor, Tensor]]
) -> Tensor:
    """(k, d) mean of each vector of `own` (weight 1), the features of `kept`, and the dropped tokens assigned to it.

    `assign` gives target and weight of the dropped tokens of a slice, from their cosines with the kept ones.
    """
    targets, total, mass = Directions.of(features[kept]), own.clone(), torch.ones_like(own[:, 0])
    step = max(1, BLOCK // max(own.shape))
    for start in range(0, dropped.shape[0], step):
        some = slice(start, start + step)
        vectors = features[dropped[some]]
        target, weights = assign(Directions.of(vectors).cosines(targets), some)
        total.index_add_(0, target, vectors * weights[:, None])
        mass.index_add_(0, target, weights)
    return total.div_(mass[:, None])
