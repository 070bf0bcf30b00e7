"""How samples become figures, and how a run in a process of its own is sampled."""

from __future__ import annotations

import os

import pytest

from omnidrop_cli.bench.measurement import Sample, alternate
from omnidrop_cli.bench.subprocess_run import in_child
from tests.bench.works import allocating, failing


def test_runs_alternate_behind_a_cold_one_and_speed_is_paired() -> None:
    order: list[str] = []
    times = {"a": iter([8.0, 1.0, 9.0, 2.0]), "b": iter([40.0, 4.0, 3.0, 5.0])}

    def run(name: str) -> Sample:
        order.append(name)
        return Sample(
            next(times[name]), cpu_s=1.0, peak_mb=len(order), before_mb=len(order) / 2, facts={"run": len(order), "x_s": len(order)}
        )

    a, b = alternate({name: lambda name=name: run(name) for name in times}, 3)
    assert order == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert (a.samples, a.cold_s, a.seconds, a.low_s, a.high_s) == (3, 8.0, 2.0, 1.0, 9.0)
    assert (a.speed, a.speed_low, a.speed_high) == (1.0, 1.0, 1.0)
    assert (b.cold_s, b.seconds) == (40.0, 4.0)
    assert (b.speed, b.speed_low, b.speed_high) == (2 / 5, 1 / 4, 9 / 3), "each repeat's own ratio: 1/4, 9/3, 2/5"
    assert (a.peak_mb, a.before_mb) == (8, 0.5), "peaks of the cold run count"
    assert a.facts == {"run": 8, "x_s": 5}, "the last sample's facts; times are medians of the warm ones (4, 5, 8)"


def test_a_failed_run_is_executed_once_and_has_no_figure() -> None:
    executed: list[int] = []

    def fails() -> Sample:
        executed.append(1)
        return Sample(problem="no such tool")

    fine, failed = alternate({"fine": lambda: Sample(1.0), "failed": fails}, 3)
    assert (len(executed), failed.problem, failed.seconds, failed.speed) == (1, "no such tool", None, None)
    assert (fine.samples, fine.speed) == (3, 1.0)


def test_without_the_first_run_there_is_no_speed() -> None:
    failed, fine = alternate({"failed": lambda: Sample(problem="gone"), "fine": lambda: Sample(2.0)}, 2)
    assert failed.problem == "gone"
    assert (fine.seconds, fine.speed, fine.speed_low) == (2.0, None, None)


def test_a_child_has_a_memory_of_its_own() -> None:
    sample = in_child(allocating, 60)
    assert sample.problem is None
    assert sample.facts["held"] == 60 * 10**6
    assert sample.facts["pid"] != os.getpid()
    assert 60 <= sample.peak_mb - 1000 - sample.before_mb < 90, "other processes' memory counts, too"
    assert "other_peak_mb" not in sample.facts


@pytest.mark.parametrize(
    ("how", "said"),
    [("absent", "not installed"), ("memory", "free memory"), ("ours", "no clip"), ("other", "ValueError: bad value"), ("killed", "signal")],
)
def test_a_childs_failure_is_reported(how: str, said: str) -> None:
    assert said in (in_child(failing, how).problem or "")
