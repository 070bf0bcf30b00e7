"""Selections against slow code written from the formulas."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.prune import topk

# Few distinct values, so that ties are common.
SCORES = st.lists(st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0]), min_size=1, max_size=30)


@given(SCORES, st.data())
def test_top_and_lowest_settle_ties_by_index(scores: list[float], data: st.DataObject) -> None:
    keep = data.draw(st.integers(0, len(scores)))
    order = sorted(range(len(scores)), key=lambda i: (scores[i], i))
    assert topk.top(torch.tensor(scores), keep).tolist() == sorted(order[len(scores) - keep :])
    assert topk.lowest(torch.tensor(scores), keep).tolist() == order[:keep]
    assert topk.without(torch.tensor(order[:keep], dtype=torch.int64), len(scores)).tolist() == sorted(order[keep:])


@given(st.lists(st.booleans(), max_size=40))
def test_true_indices_are_nonzero(mask: list[bool]) -> None:
    tensor = torch.tensor(mask, dtype=torch.bool)
    assert torch.equal(topk.true_indices(tensor, sum(mask)), tensor.nonzero().flatten())


@given(SCORES, st.data())
def test_top_within_is_top_of_each_segment(scores: list[float], data: st.DataObject) -> None:
    segment = data.draw(st.lists(st.integers(0, 3), min_size=len(scores), max_size=len(scores)))
    sizes = [segment.count(i) for i in range(4)]
    keep_counts = [data.draw(st.integers(0, size)) for size in sizes]
    expected = []
    for i in range(4):
        members = sorted((j for j in range(len(scores)) if segment[j] == i), key=lambda j: (scores[j], j))
        expected += members[sizes[i] - keep_counts[i] :]
    got = topk.top_within(torch.tensor(scores), torch.tensor(segment), keep_counts)
    assert got.tolist() == sorted(expected)


def sainte_lague(scores: list[float], segment: list[int], shares: list[float], keep: int) -> list[int]:
    """One seat at a time to the segment with the largest share / (seats + 1/2); a seat goes to its best token left."""
    left = {i: sorted((j for j in range(len(scores)) if segment[j] == i), key=lambda j: (scores[j], j)) for i in range(len(shares))}
    seats, kept = [0] * len(shares), []
    for _ in range(keep):
        open_ = [i for i in range(len(shares)) if left[i]]
        winner = max(open_, key=lambda i: (shares[i] / (seats[i] + 0.5), -left[i][-1]))
        kept.append(left[winner].pop())
        seats[winner] += 1
    return sorted(kept)


@given(SCORES, st.data())
def test_top_by_share_is_sainte_lague(scores: list[float], data: st.DataObject) -> None:
    segment = data.draw(st.lists(st.integers(0, 3), min_size=len(scores), max_size=len(scores)))
    shares = [data.draw(st.sampled_from([1.0, 2.0, 4.0, 8.0])) for _ in range(4)]  # exact in binary, so that ties are ties
    keep = data.draw(st.integers(0, len(scores)))
    got = topk.top_by_share(torch.tensor(scores), torch.tensor(segment), torch.tensor(shares), keep)
    assert got.tolist() == sainte_lague(scores, segment, shares, keep)


def algorithm_1(scores: list[float], chunks: list[int], k: int, weight: float, normalise: bool) -> list[int]:
    """Lines 1 to 5 of Algorithm 1, one token at a time; returns the survivors."""
    alive = range(len(scores))
    best = min(i for i in alive if scores[i] == max(scores))
    candidates = sorted(sorted(alive, key=lambda i: (scores[i], i))[: min(2 * k, len(scores))])
    if normalise and max(scores) > 0:
        scores = [(torch.tensor(s) / torch.tensor(max(scores))).item() for s in scores]
    sums = {}
    for i in candidates:
        distance = torch.tensor(abs(chunks[best] - chunks[i])) / max(max(chunks), 1)
        sums[i] = (torch.tensor(scores[i]) + weight * distance).item()
    dropped = sorted(candidates, key=lambda i: (sums[i], i))[:k]
    return [i for i in alive if i not in dropped]


@given(SCORES, st.floats(0, 2), st.booleans(), st.data())
def test_diverse_is_algorithm_1(scores: list[float], weight: float, normalise: bool, data: st.DataObject) -> None:
    chunks = data.draw(st.lists(st.integers(0, 5), min_size=len(scores), max_size=len(scores)))
    k = data.draw(st.integers(0, len(scores) - 1))
    got = topk.diverse(torch.tensor(scores), torch.tensor(chunks), len(scores) - k, weight=weight, normalise=normalise)
    assert sorted(got.tolist()) == algorithm_1(scores, chunks, k, weight, normalise)


def test_distance_decides_among_the_least_attended() -> None:
    """The key chunk is 2 (score .9). Of the two candidates per dropped token, the one nearer to it goes."""
    scores, chunk = torch.tensor([1e-5, 2e-5, 0.3, 0.9]), torch.tensor([0, 2, 0, 2])
    assert sorted(topk.diverse(scores, chunk, 3, weight=0.2, normalise=False).tolist()) == [0, 2, 3]
    assert topk.top(scores, 3).tolist() == [1, 2, 3]


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / max(math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b)), 1e-8)


def merged_slowly(video: list[list[list[float]]], keep: list[int]) -> list[int]:
    """DyCoke's two steps as its paper states them, frame by frame, position by position."""
    size, kept = len(video[0]), []
    for f, frame in enumerate(video):
        place = f % 4
        if place == 0 and f == 0:
            mean = [sum(token[c] for token in frame) / size for c in range(len(frame[0]))]
            others = [mean] * size
        elif place == 0:
            others = video[f - 4]
        else:
            others = video[{1: f - 1, 2: f - 2, 3: f - 1}[place]]
        order = sorted(range(size), key=lambda j: (round(cosine(frame[j], others[j]), 5), j))
        kept += [f * size + j for j in sorted(order[: keep[f]])]
    return kept


@given(frames=st.integers(1, 13), size=st.integers(1, 6), block=st.integers(1, 5), seed=st.integers(0, 999), data=st.data())
def test_temporal_merging_keeps_what_changed(frames: int, size: int, block: int, seed: int, data: st.DataObject) -> None:
    video = torch.randn(frames, size, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()
    keep = [data.draw(st.integers(0, size)) for _ in range(frames)]
    whole, topk.BLOCK = topk.BLOCK, block
    try:
        got = topk.temporally_merged(video.flatten(0, 1), size, keep)
    finally:
        topk.BLOCK = whole
    assert got.tolist() == merged_slowly(video.tolist(), keep)


def test_the_fourth_frame_is_compared_with_the_third() -> None:
    """DyCoke compares 3 with 2; a reproduction that compares 3 with 0 keeps another token here."""
    still, left, right = [1.0, 0.0], [0.6, 0.8], [0.0, 1.0]
    video = torch.tensor([[still, still], [still, still], [left, right], [left, still]])
    assert topk.temporally_merged(video.flatten(0, 1), 2, [2, 0, 0, 1]).tolist() == [0, 1, 7]
    assert topk.merge_references(9) == [0, 0, 0, 2, 0, 4, 4, 6, 4]
