"""Selection without all distances at once gives the picks of the plain loop, in order, ties included, with few questions to the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from omnidrop_cli.prune import distances, lazy_greedy
from omnidrop_cli.prune.distances import Tokens
from tests.engine.tape import WAITING, capture_on_tape


def plain_greedy(distance: Tensor, count: int) -> list[int]:
    """From all distances, one pick after another; the first is the token whose nearest other is farthest."""
    alone = distance.clone().fill_diagonal_(float("inf")).amin(dim=0)
    picked = [int(alone.argmax())]
    while len(picked) < count:
        nearest = distance[picked].amin(dim=0)
        nearest[picked] = float("-inf")
        picked.append(int(nearest.argmax()))
    return picked


def exact_tokens(size: int, dim: int, weighted: bool, timed: bool, seed: int) -> Tokens:
    """Tokens whose distances are the same however they are computed: directions of +1 and -1, weights that are powers of two; the
    times are 0 or so far apart that nothing is left of the common part."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, 2, (1, size, dim), generator=generator) * 2.0 - 1
    weight = 2.0 ** torch.randint(-1, 2, (1, size), generator=generator) if weighted else None
    when = 1000.0 * torch.randint(0, 3, (1, size), generator=generator) if timed else None
    common = torch.randint(-8, 8, (1, size), generator=generator) / 16 if timed else None
    return Tokens(rows / dim**0.5, None, weight, when, common)


def all_distances(tokens: Tokens) -> Tensor:
    distance = distances.between(tokens, tokens)[0]
    return distance if tokens.weight is None else distance * tokens.weight[0]


def small(patch: pytest.MonkeyPatch, candidates: int, run: int) -> None:
    patch.setattr(lazy_greedy, "CANDIDATES", candidates)
    patch.setattr(lazy_greedy, "RUN", run)
    patch.setattr(distances, "BLOCK", 64)


@settings(max_examples=150)
@given(
    size=st.integers(1, 60),
    dim=st.sampled_from([4, 16, 64]),
    weighted=st.booleans(),
    timed=st.booleans(),
    candidates=st.integers(1, 24),
    run=st.integers(1, 9),
    seed=st.integers(0, 999),
    data=st.data(),
)
def test_picks_are_those_of_the_plain_loop(
    size: int, dim: int, weighted: bool, timed: bool, candidates: int, run: int, seed: int, data: st.DataObject
) -> None:
    tokens = exact_tokens(size, dim, weighted, timed, seed)
    count = data.draw(st.integers(1, size))
    with pytest.MonkeyPatch.context() as patch:
        small(patch, candidates, run)
        got = lazy_greedy.lazy_greedy(tokens, count)
    assert got.tolist() == [plain_greedy(all_distances(tokens), count)]


def clustered(size: int) -> Tokens:
    generator = torch.Generator().manual_seed(5)
    centres = torch.randn(12, 32, generator=generator)
    features = centres[torch.randint(0, 12, (size,), generator=generator)] + 0.4 * torch.randn(size, 32, generator=generator)
    return Tokens.of(features, torch.arange(size)[None], torch.ones(1, size, dtype=torch.bool), None, torch.arange(size) / 50)


def test_captured_picks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = clustered(600)
    monkeypatch.setattr(lazy_greedy, "CANDIDATES", 200)
    expected = lazy_greedy.lazy_greedy(tokens, 300)
    monkeypatch.setattr(lazy_greedy, "capture_on", lambda device: capture_on_tape)
    assert torch.equal(lazy_greedy.lazy_greedy(tokens, 300), expected)
    assert expected.tolist() == [plain_greedy(all_distances(tokens), 300)]


class Waits(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket in WAITING
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.largest = max(self.largest, result.numel())
        return result


def test_waits_are_few_and_memory_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait for each block of candidates and for each run of picks, where a pick for pick loop would have 1,200."""
    tokens = clustered(3000)
    monkeypatch.setattr(lazy_greedy, "CANDIDATES", 500)
    monkeypatch.setattr(distances, "BLOCK", 1 << 18)
    with Waits() as waits:
        lazy_greedy.lazy_greedy(tokens, 1200)
    assert waits.count < 40
    assert waits.largest <= 1 << 18


def test_broken_numbers_end_the_loop() -> None:
    tokens = Tokens(torch.full((1, 9, 4), float("nan")))
    assert lazy_greedy.lazy_greedy(tokens, 5).shape == (1, 5)


def test_a_matrix_of_distances_is_filled_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    features, token = torch.randn(20, 5), torch.arange(20).view(2, 10)
    tokens = Tokens.of(features, token, torch.ones_like(token, dtype=torch.bool), torch.rand(20) + 0.5, None)
    whole, matrix, made = torch.empty(2, 10, 10), torch.empty(2, 10, 10), []
    distances.fill(whole, tokens)
    between = distances.between
    monkeypatch.setattr(distances, "BLOCK", 60)
    monkeypatch.setattr(distances, "between", lambda *pair: made.append(between(*pair)) or made[-1])
    distances.fill(matrix, tokens)
    assert [part.numel() for part in made] == [60, 60, 60, 20]
    torch.testing.assert_close(matrix, whole)
