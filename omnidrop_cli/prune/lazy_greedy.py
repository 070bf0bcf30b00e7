"""Greedy max-min selection without all distances at once: only the tokens that can be picked next are compared with one another.

In: the tokens of one group. Out: the picks in order, those of the plain greedy loop. The distance to the nearest pick only ever falls, so
an earlier one bounds it from above. The tokens with the highest are picked from until the best of them does not exceed the
highest bound of the others; then all are compared with the new picks, in one product. (The principle is Minoux' accelerated greedy.)

The host waits for every run of picks, and for every block of candidates to be first: what comes next depends on it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from omnidrop_cli.model.cuda_capture import capture_on
from omnidrop_cli.prune import distances
from omnidrop_cli.prune.distances import Tokens
from omnidrop_cli.prune.pick_loop import PickLoop

CANDIDATES = 1 << 12
"""Tokens compared with one another at once (64 MiB of distances)."""

RUN = 1 << 8
"""Picks between two checks whether they still hold; those after the first that does not are discarded."""


def lazy_greedy(tokens: Tokens, count: int, first: Tensor | None = None) -> Tensor:
    """(1, count) int64 indices of the picks in order, of one group without padding; `first` (1,) is the first, where it is given."""
    size = min(CANDIDATES, tokens.size)
    loop = PickLoop(tokens.rows.new_empty(1, size, size, dtype=torch.float32), capture_on(tokens.rows.device))
    new = farthest_from_all(tokens) if first is None else first
    order = [new]
    nearest = torch.full((tokens.size,), float("inf"), device=new.device)
    left = count - 1
    while left:
        nearest = torch.minimum(nearest, _weighted(_nearest(tokens, tokens.take(new)), tokens)).index_fill_(0, new, float("-inf"))
        ranked = nearest.sort(descending=True, stable=True)
        chosen = ranked.indices[:size].sort().values
        distances.fill(loop.matrix, tokens.take(chosen))
        loop.matrix.diagonal(dim1=1, dim2=2).fill_(float("-inf"))
        loop.nearest.copy_(nearest[chosen])
        new = chosen[_run(loop, left, chosen, ranked.values[size : size + 1], ranked.indices[size : size + 1])]
        order.append(new)
        left -= len(new)
    return torch.cat(order)[None]


def _run(loop: PickLoop, most: int, chosen: Tensor, bound: Tensor, first: Tensor) -> Tensor:
    """Picks of `loop` that come before every other token. Waits for the device.

    Args:
        most: number of picks at most.
        chosen: (c,) the candidates' indices.
        bound: the highest distance of another token from the picks, (1,); empty if there are no others.
        first: the lowest index of one at that distance.
    """
    found: list[Tensor] = []
    while most:
        picks, values = (part[:, 0] for part in loop.run(min(RUN, most)))
        before = (values > bound) | ((values == bound) & (chosen[picks] < first)) if len(bound) else values > float("-inf")
        valid = int(before.cumprod(0).sum())
        if not found:
            valid = max(1, valid)  # the first always holds; no comparison of NaN does
        found.append(picks[:valid])
        most = most - valid if valid == len(picks) else 0
    return torch.cat(found)


def _nearest(tokens: Tokens, picked: Tokens) -> Tensor:
    """(n,) distance of every token from the nearest of `picked`, without the weights."""
    step = max(distances.ALIGNED, distances.BLOCK // picked.size // distances.ALIGNED * distances.ALIGNED)
    parts = (tokens.take(slice(start, start + step)) for start in range(0, tokens.size, step))
    return torch.cat([distances.between(picked, part)[0].amin(dim=0) for part in parts])


def _weighted(distance: Tensor, tokens: Tokens) -> Tensor:
    return distance if tokens.weight is None else distance * tokens.weight[0]


def farthest_from_all(tokens: Tokens) -> Tensor:
    """(1,) index of the token whose nearest other is farthest. Waits for the device.

    The nearest other is found for one block of candidates after another. Their distances to all bound those of the others from above, and
    the next block is of the highest bounds, until none exceeds the best that is found.
    """
    n, size = tokens.size, min(CANDIDATES, tokens.size)
    bound = torch.full((n,), float("inf"), device=tokens.rows.device)
    exact = torch.zeros(n, dtype=torch.bool, device=bound.device)
    chosen = torch.arange(size, device=bound.device) * n // size  # spread evenly
    while True:
        bound = _bounds(tokens, chosen, bound)
        exact.index_fill_(0, chosen, True)
        distance = _weighted(bound, tokens)
        best, pick = distance.masked_fill(~exact, float("-inf")).max(dim=0, keepdim=True)
        others = distance.masked_fill(exact, float("-inf"))
        highest, first = others.max(dim=0, keepdim=True)
        if not bool((highest > best) | ((highest == best) & (first < pick))):
            return pick
        chosen = others.topk(size).indices


def _bounds(tokens: Tokens, chosen: Tensor, bound: Tensor) -> Tensor:
    """`bound` (n,) with distances between all tokens and `chosen` taken into account: exact for the chosen."""
    some, columns = tokens.take(chosen), torch.arange(len(chosen), device=chosen.device)
    best, rows = torch.full_like(bound[: len(chosen)], float("inf")), []
    step = max(1, distances.BLOCK // len(chosen))
    for start in range(0, tokens.size, step):
        block = distances.between(tokens.take(slice(start, start + step)), some)[0]
        place = chosen - start
        inside = (place >= 0) & (place < len(block))
        itself = (place.clamp(0, len(block) - 1), columns)
        block[itself] = block[itself].masked_fill(inside, float("inf"))
        rows.append(block.amin(dim=1))
        best = torch.minimum(best, block.amin(dim=0))
    return torch.minimum(bound, torch.cat(rows)).index_copy_(0, chosen, best)
