"""The loop of picks against an obvious one, eagerly and replayed from a record, and what it launches at the 7B's geometry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from omnidrop_cli.model.cuda_capture import Capture
from omnidrop_cli.prune import diversity, pick_loop
from omnidrop_cli.prune.groups import Segments
from omnidrop_cli.prune.pick_loop import PickLoop
from tests.engine.tape import capture_on_tape

VIEWS = ("view", "slice", "select", "unsqueeze", "expand", "transpose", "t.default", "detach", "alias", "split", "diagonal")


class Launches(TorchDispatchMode):
    """Counts operations that make or fill a tensor; views launch nothing, and neither does reserving memory."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not any(f"aten.{name}" in str(func) for name in (*VIEWS, "empty", "new_empty"))
        return func(*args, **(kwargs or {}))


def obvious(matrix: Tensor, first: int, count: int) -> list[int]:
    rows = matrix.tolist()
    picked = [first]
    for _ in range(count):
        left = [j for j in range(len(rows)) if j not in picked]
        picked.append(max(left, key=lambda j: (min(rows[i][j] for i in picked), -j)))
    return picked


def loop_over(matrix: Tensor, capture: Capture | None) -> PickLoop:
    matrix = matrix.clone()
    matrix.diagonal(dim1=1, dim2=2).fill_(float("-inf"))
    return PickLoop(matrix, capture)


@pytest.mark.parametrize("capture", [None, capture_on_tape])
@settings(max_examples=40)
@given(groups=st.integers(1, 3), size=st.integers(2, 24), levels=st.integers(1, 50), seed=st.integers(0, 999), data=st.data())
def test_picks_are_those_of_an_obvious_loop(
    capture: Capture | None, groups: int, size: int, levels: int, seed: int, data: st.DataObject
) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randint(0, levels, (groups, size, size), generator=generator).float()  # few levels: many ties
    first = torch.randint(0, size, (groups, 1), generator=generator)
    count = data.draw(st.integers(0, size - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pick_loop, "UNROLL", 3)
        patch.setattr(pick_loop, "MIN_CAPTURE", 6)
        loop = loop_over(matrix, capture)
        loop.start(first)
        cut = data.draw(st.integers(0, count))
        picks, values = (torch.cat(parts) for parts in zip(loop.run(cut), loop.run(count - cut), strict=True))
    for group in range(groups):
        order = obvious(matrix[group], int(first[group]), count)
        assert [int(first[group]), *picks[:, group].tolist()] == order
        assert values[:, group].tolist() == [matrix[group][order[: place + 1], pick].min().item() for place, pick in enumerate(order[1:])]


def test_a_graph_is_recorded_once_and_serves_other_distances() -> None:
    captures: list[int] = []

    def counting(step: Callable[[], None]) -> Callable[[], None]:
        captures.append(1)
        return capture_on_tape(step)

    loop = loop_over(torch.rand(1, 200, 200), counting)
    for seed in range(3):
        matrix = torch.rand(1, 200, 200, generator=torch.Generator().manual_seed(seed))
        loop.matrix.copy_(matrix).diagonal(dim1=1, dim2=2).fill_(float("-inf"))
        plain = loop_over(matrix, None)
        for each in (loop, plain):
            each.start(torch.tensor([[7]]))
        assert torch.equal(loop.run(150)[0], plain.run(150)[0])
    assert len(captures) == 1


@pytest.mark.parametrize("after", [0, 5, pick_loop.UNROLL * 3 + 2])
def test_a_capture_that_fails_leaves_the_picks_as_they_are(after: int) -> None:
    """It may fail before, during or after the warm-up, which has made picks then."""
    matrix = torch.rand(2, 120, 120, generator=torch.Generator().manual_seed(0))

    def failing(step: Callable[[], None]) -> Callable[[], None]:
        if after:
            step()
        raise RuntimeError("operation not permitted when stream is capturing")

    loop, plain = loop_over(matrix, failing), loop_over(matrix, None)
    for each in (loop, plain):
        each.start(torch.tensor([[3], [4]]))
    for broken, eager in zip(loop.run(100), plain.run(100), strict=True):
        assert torch.equal(broken, eager)


@pytest.mark.parametrize("sizes", [[60], [20, 20, 20]])
def test_a_pick_takes_three_launches(sizes: list[int]) -> None:
    features = torch.randn(sum(sizes), 8, generator=torch.Generator().manual_seed(0))
    groups = Segments.of([group for group, size in enumerate(sizes) for _ in range(size)])
    counts = []
    for picks in (3, 13):
        with Launches() as launches:
            diversity.max_min(features, groups, [picks] * len(sizes))
        counts.append(launches.count)
    assert counts[1] - counts[0] == 10 * 3


@pytest.mark.parametrize(("groups", "picks", "most"), [(1, 3629, 1000), (30, 101, 250)])
def test_launches_for_a_minute_of_video(monkeypatch: pytest.MonkeyPatch, groups: int, picks: int, most: int) -> None:
    """8,640 tokens of a 7B: in one window, and in 30. A replay of a graph is one launch."""

    def launch_once() -> None:
        torch.zeros(1, device="meta")

    def capture(step: Callable[[], None]) -> Callable[[], None]:
        step()
        step()  # the record is made of launches, too
        return launch_once

    monkeypatch.setattr(diversity, "capture_on", lambda device: capture)
    features = torch.empty(8640, 3584, device="meta")
    windows = Segments.windows(8640, 8640 // groups)
    with Launches() as launches:
        diversity.max_min(features, windows, [picks] * groups, when=torch.empty(8640, device="meta"))
    assert launches.count < most
