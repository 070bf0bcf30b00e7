"""Measurements as records: samples of several runs become one figure each, and groups of them one report.

Light on purpose: processes that only decode media import this module and no torch.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from omnidrop_cli.events import SILENT, ProgressCallback

SCHEMA = 3
"""Version of every bench's JSON."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One execution of one run.

    Args:
        seconds: Wall time, the device drained at both ends.
        cpu_s: Processor seconds of all threads and children; unlike wall time, other work on the machine does not stretch them.
        peak_mb: Memory peak during the run. `before_mb` is what was held when it began.
        facts: JSON-ready facts about the result. Numbers named `*_s` are times: their median over the samples is reported.
        problem: Why there is no figure.
    """

    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    before_mb: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run of a group, over all its samples.

    Args:
        samples: How many samples the figures are from, the cold one not counted.
        cold_s: Seconds of the first execution, before anything was warm.
        seconds: Median of the others, between `low_s` and `high_s`.
        speed: Median over repeats of the first run's seconds divided by this run's, in the same repeat; `speed_low` and `speed_high` are
            the least and the largest. Above 1 is faster than the group's first run.
        cpu_s: Median of the processor seconds.
        peak_mb: Largest peak; `before_mb` the least memory held before.
    """

    name: str
    samples: int
    cold_s: float | None = None
    seconds: float | None = None
    low_s: float | None = None
    high_s: float | None = None
    speed: float | None = None
    speed_low: float | None = None
    speed_high: float | None = None
    cpu_s: float | None = None
    peak_mb: float | None = None
    before_mb: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that did comparable work, alternated. The others' speed is relative to the first."""

    subject: str
    runs: Sequence[Measurement]


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Everything one bench measured. `computed` holds figures that were calculated, not measured."""

    kind: str
    device: str
    repeats: int
    groups: Sequence[Group]
    packages: Sequence[str]
    facts: Mapping[str, Any] = field(default_factory=dict)
    computed: Sequence[Mapping[str, Any]] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values, with date and package versions."""
        body = asdict(self)
        names = ("omnidrop-cli", *body.pop("packages"))
        return {
            "schema": SCHEMA,
            "kind": body.pop("kind"),
            "date": date.today().isoformat(),
            "device": body.pop("device"),
            "versions": {name: found for name in names if (found := _version(name)) is not None},
            **body,
        }


Runs = Mapping[str, Callable[[], Sample]]
"""Name to what is measured."""


def alternate(runs: Runs, repeats: int, progress: ProgressCallback = SILENT) -> list[Measurement]:
    """Execute every run once cold, then `repeats` times, forwards and backwards in turn, so that a slow minute hits all of them.

    A run that failed is not executed again.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for place, name in enumerate(list(runs)[:: -1 if repeat % 2 else 1]):
            if not (samples[name] and samples[name][-1].problem):
                samples[name].append(runs[name]())
            progress.advance(repeat * len(runs) + place + 1, (repeats + 1) * len(runs))
    first = next(iter(samples.values()), [])
    return [_summarise(name, taken, first) for name, taken in samples.items()]


def _summarise(name: str, samples: Sequence[Sample], first: Sequence[Sample]) -> Measurement:
    """`samples` begin with the cold one, as those of the group's `first` run do."""
    problem = next((sample.problem for sample in samples if sample.problem), None)
    if problem is not None:
        return Measurement(name, len(samples), problem=problem)
    cold, *warm = samples
    times = [sample.seconds for sample in warm]
    comparable = not any(sample.problem for sample in first)
    speeds = [theirs.seconds / mine for theirs, mine in zip(first[1:], times, strict=True)] if comparable else []
    return Measurement(
        name=name,
        samples=len(warm),
        cold_s=cold.seconds,
        seconds=statistics.median(times),
        low_s=min(times),
        high_s=max(times),
        speed=statistics.median(speeds) if speeds else None,
        speed_low=min(speeds, default=None),
        speed_high=max(speeds, default=None),
        cpu_s=statistics.median(sample.cpu_s for sample in warm),
        peak_mb=max(sample.peak_mb for sample in samples),
        before_mb=min(sample.before_mb for sample in samples),
        facts=_facts(warm),
    )


def _facts(samples: Sequence[Sample]) -> dict[str, Any]:
    last = dict(samples[-1].facts)
    for name in last:
        if name.endswith("_s"):
            last[name] = statistics.median(sample.facts[name] for sample in samples)
    return last


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
