"""Max-min diversity and density peaks against loops over tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from omnidrop_cli.prune import distances, diversity, lazy_greedy
from omnidrop_cli.prune.groups import Segments
from tests.prune.published import spatial_scores


def cosines(x: Tensor) -> list[list[float]]:
    unit = torch.nn.functional.normalize(x.double(), dim=-1)
    return (unit @ unit.T).tolist()


def greedy(x: Tensor, weight: list[float], keep_count: int, when: list[float] | None = None) -> list[list[int]]:
    """winDivPrune as published: D_ij = (1 - cos) w_j, first the largest second-smallest of its column, then farthest from the picked.

    With times, what two tokens share beyond the mean of all fades by e over a unit between them (ours).

    Without weights two tokens that are each other's nearest tie for the first pick, up to rounding: every tied start is an answer.
    """
    n, cos, when = len(x), cosines(x), when or [0.0] * len(x)
    unit = torch.nn.functional.normalize(x.double(), dim=-1)
    own = ((unit - unit.mean(0)) @ (unit - unit.mean(0)).T).tolist()
    gone = [[1 - math.exp(-abs(a - b)) for b in when] for a in when]
    distance = [[(1 - cos[i][j] + gone[i][j] * own[i][j]) * weight[j] for j in range(n)] for i in range(n)]
    if not keep_count:
        return [[]]
    nearest = [min((distance[i][j] for i in range(n) if i != j), default=1.0) for j in range(n)]
    answers = []
    for start in (j for j in range(n) if nearest[j] >= max(nearest) - 1e-6):
        picked = [start]
        while len(picked) < keep_count:
            left = [j for j in range(n) if j not in picked]
            picked.append(max(left, key=lambda j: (min(distance[i][j] for i in picked), -j)))
        answers.append(sorted(picked))
    return answers


@contextmanager
def small_blocks(limit: int) -> Iterator[None]:
    """Few numbers at once, so that small inputs meet every border; with 40, more than six tokens are too many for a matrix."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diversity, "MAX_DISTANCES", limit)
        patch.setattr(distances, "BLOCK", limit)
        if limit == 40:
            patch.setattr(lazy_greedy, "CANDIDATES", 4)
            patch.setattr(lazy_greedy, "RUN", 2)
        yield


@pytest.mark.parametrize("limit", [1 << 25, 40])  # one matrix for all groups, and row by row in small blocks
@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    seed=st.integers(0, 999),
    weighted=st.booleans(),
    timed=st.booleans(),
    half=st.booleans(),
    data=st.data(),
)
def test_max_min_is_the_greedy_rule_in_every_group(
    limit: int, sizes: list[int], seed: int, weighted: bool, timed: bool, half: bool, data: st.DataObject
) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(sum(sizes), 6, generator=generator).to(torch.bfloat16 if half else torch.float32)
    weight = torch.rand(sum(sizes), generator=generator) + 0.1 if weighted else None
    when = torch.rand(sum(sizes), generator=generator) * 3 if timed else None
    keep_counts = [data.draw(st.integers(0, size)) for size in sizes]
    groups = Segments.of([group for group, size in enumerate(sizes) for _ in range(size)])
    with small_blocks(limit):
        got = diversity.max_min(features, groups, keep_counts, weight, when).tolist()
    start = 0
    for size, keep_count in zip(sizes, keep_counts, strict=True):
        own = [1.0] * size if weight is None else weight[start : start + size].tolist()
        assert [i - start for i in got if start <= i < start + size] in greedy(
            features[start : start + size], own, keep_count, None if when is None else when[start : start + size].tolist()
        )
        start += size


@pytest.mark.parametrize("limit", [1 << 25, 40])
@settings(max_examples=40)
@given(size=st.integers(1, 12), seed=st.integers(0, 999), half=st.booleans(), data=st.data())
def test_max_min_from_a_given_token_is_the_greedy_rule(limit: int, size: int, seed: int, half: bool, data: st.DataObject) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(size, 6, generator=generator).to(torch.bfloat16 if half else torch.float32)
    weight = torch.rand(size, generator=generator) + 0.1
    keep, first = data.draw(st.integers(1, size)), data.draw(st.integers(0, size - 1))
    with small_blocks(limit):
        got = diversity.max_min_from(torch.tensor([first]), features, keep, weight).tolist()
    cos, picked = cosines(features), [first]
    while len(picked) < keep:
        left = [j for j in range(size) if j not in picked]
        picked.append(max(left, key=lambda j: (min(1 - cos[i][j] for i in picked) * float(weight[j]), -j)))
    assert got == sorted(picked)


def test_groups_may_be_interleaved() -> None:
    features = torch.randn(9, 4, generator=torch.Generator().manual_seed(3))
    number = [0, 1, 2] * 3
    got = diversity.max_min(features, Segments.of(number), [2, 1, 3]).tolist()
    for group, keep_count in enumerate([2, 1, 3]):
        members = [i for i in range(9) if number[i] == group]
        assert [members.index(i) for i in got if i in members] in greedy(features[members], [1.0] * 3, keep_count)


def test_a_copy_is_the_last_to_be_picked() -> None:
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.2]])
    assert len(set(diversity.max_min(features, Segments.of([0] * 4), [3]).tolist()) & {0, 1}) == 1


def test_what_lasts_is_kept_again_where_likeness_fades_but_not_the_background() -> None:
    """Twelve seconds: a wall all the time, a thing in the last six, something else at the start."""
    wall, thing, other = torch.eye(3)
    features = torch.stack([wall] * 24 + [thing] * 6 + [other])
    seconds = torch.tensor([*(second / 2 for second in range(24)), *range(6, 12), 0.0])
    groups = Segments.of([0] * 31)
    plain = diversity.max_min(features, groups, [3]).tolist()
    faded = diversity.max_min(features, groups, [5], when=seconds / 2).tolist()
    assert [sum(first <= i < last for i in plain) for first, last in ((0, 24), (24, 30), (30, 31))] == [1, 1, 1]
    assert sum(24 <= i < 30 for i in faded) >= 3


@pytest.mark.parametrize("peaks", ["paper", "v2", "v1"])
@settings(max_examples=30)
@given(size=st.integers(2, 12), frames=st.integers(1, 4), seed=st.integers(0, 999))
def test_density_peaks_follow_the_formula(peaks: str, size: int, frames: int, seed: int) -> None:
    video = torch.randn(frames, size, 8, generator=torch.Generator().manual_seed(seed))
    got = diversity.density_peaks(video, peaks)  # type: ignore[arg-type]
    # Two tokens that are each other's whole neighbourhood have equal densities up to rounding: no order to compare.
    if size > 2:
        expected = torch.tensor([spatial_scores(frame, peaks) for frame in video])
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_a_frame_of_one_token_has_a_score() -> None:
    assert diversity.density_peaks(torch.randn(3, 1, 8)).shape == (3, 1)
