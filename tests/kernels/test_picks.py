"""The kernel of picks against the loop in PyTorch: by Triton's interpreter on a CPU, by itself on a GPU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omnidrop_cli import kernels
from omnidrop_cli.prune import diversity, pick_loop
from omnidrop_cli.prune.groups import Segments
from omnidrop_cli.prune.pick_loop import PickLoop

pytest.importorskip("triton")
from omnidrop_cli.kernels.picks import pick

DEVICE = "cuda:0" if torch.cuda.is_available() else "cpu"


@settings(max_examples=25)
@given(groups=st.integers(1, 3), size=st.integers(2, 40), levels=st.integers(1, 50), seed=st.integers(0, 999), data=st.data())
def test_picks_are_those_of_the_loop(groups: int, size: int, levels: int, seed: int, data: st.DataObject) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randint(0, levels, (groups, size, size), generator=generator).float().to(DEVICE)  # few levels: many ties
    matrix.diagonal(dim1=1, dim2=2).fill_(float("-inf"))
    loop = PickLoop(matrix)
    loop.start(torch.randint(0, size, (groups, 1), generator=generator).to(DEVICE))
    nearest, count = loop.nearest.clone(), data.draw(st.integers(1, size - 1))
    expected, values = loop.run(count)
    picks, distances = pick(matrix, nearest, count)
    assert torch.equal(picks, expected)
    assert torch.equal(distances, values)
    assert torch.equal(nearest, loop.nearest)


def test_what_cannot_be_compared_stays_inside_its_group() -> None:
    matrix = torch.full((2, 5, 5), float("nan"), device=DEVICE)
    picks, _ = pick(matrix, matrix[:, 0].contiguous(), 3)
    assert ((picks >= 0) & (picks < 5)).all()


@pytest.mark.parametrize("most", [1 << 14, 8])
def test_selection_takes_the_kernel_where_it_runs_and_a_group_fits(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.randn(40, 8, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    groups = Segments.windows(40, 20)
    monkeypatch.setattr(kernels, "runs_on", lambda _: False)
    expected = diversity.max_min(features, groups, [6, 9])
    monkeypatch.setattr(kernels, "runs_on", lambda _: True)
    monkeypatch.setattr(pick_loop, "MOST", most)
    calls = []
    monkeypatch.setattr("omnidrop_cli.kernels.picks.pick", lambda *given: calls.append(1) or pick(*given))
    assert torch.equal(diversity.max_min(features, groups, [6, 9]), expected)
    assert len(calls) == (most > 20)


def test_no_kernel_runs_on_a_cpu() -> None:
    assert not kernels.runs_on(torch.device("cpu"))
    assert kernels.problem(torch.device("cpu")) == "no NVIDIA GPU"


@pytest.mark.parametrize(
    ("capability", "hip", "raised", "found"),
    [
        ((7, 5), None, None, "the GPU is older than Ampere"),
        ((9, 0), "6.4", None, "PyTorch is built for AMD GPUs"),
        ((8, 0), None, RuntimeError("Failed to find C compiler.\nPlease specify via CC"), "RuntimeError: Failed to find C compiler."),
        ((8, 6), None, None, None),
    ],
)
def test_the_reason_is_given_where_no_kernel_runs(
    capability: tuple[int, int], hip: str | None, raised: Exception | None, found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trial(device: torch.device) -> bool:
        if raised is not None:
            raise raised
        return True

    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr("omnidrop_cli.kernels.trial.trial", trial)
    kernels.problem.cache_clear()
    assert kernels.problem(torch.device("cuda:7")) == found
    assert kernels.runs_on(torch.device("cuda:7")) == (found is None)
    kernels.problem.cache_clear()
