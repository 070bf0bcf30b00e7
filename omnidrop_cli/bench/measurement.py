"""What a measurement tells: arms side by side, and what must stand beside a figure.

Knows: how repeats become one figure, and the shape all benches share as JSON. Does not know: how anything is measured, terminals.
Imports nothing heavy: arms that decode media run in processes without torch.
"""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from omnidrop_cli.events import SILENT, Observer

SCHEMA = 2


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one arm. `cpu_s` are processor seconds of all threads and children, which other work on the machine does not stretch.

    `peak_mb` is the memory peak while it ran, `before_mb` what was held when it began. `problem` says why there is no figure.
    """

    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    before_mb: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm: medians of its runs, the largest of their peaks, and its times over those of the first arm of the group."""

    name: str
    runs: int
    seconds: float | None
    cpu_s: float | None
    over_first: float | None
    cpu_over_first: float | None
    peak_mb: float | None
    before_mb: float | None
    facts: Mapping[str, Any]
    problem: str | None


@dataclass(frozen=True, slots=True)
class Group:
    """Arms that did the same work, alternated. The first one is what the others are compared with."""

    subject: str
    arms: Sequence[Arm]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sheet:
    """Everything one command measured. `computed` are figures that were calculated, not measured."""

    kind: str
    device: str
    repeats: int
    groups: Sequence[Group]
    packages: Sequence[str]
    facts: Mapping[str, Any] = field(default_factory=dict)
    computed: Sequence[Mapping[str, Any]] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        body = asdict(self)
        return {**heading(self.kind, self.device, body.pop("packages")), **body}


def heading(kind: str, device: str, packages: Sequence[str]) -> dict[str, Any]:
    """What every bench's JSON begins with."""
    return {
        "schema": SCHEMA,
        "kind": kind,
        "date": date.today().isoformat(),
        "device": device,
        "versions": {name: found for name in ("omnidrop-cli", *packages) if (found := _version(name)) is not None},
    }


def alternate(arms: Mapping[str, Callable[[], Sample]], repeats: int, observer: Observer = SILENT) -> list[Arm]:
    """Run every arm `repeats` times, forwards and backwards by turns, so that a slow minute hits all. A failed arm is not run again."""
    runs: dict[str, list[Sample]] = {name: [] for name in arms}
    for repeat in range(repeats):
        for place, name in enumerate(list(arms)[:: 1 if repeat % 2 == 0 else -1]):
            if not (runs[name] and runs[name][-1].problem):
                runs[name].append(arms[name]())
            observer.advance(repeat * len(arms) + place + 1, repeats * len(arms))
    return summarised(runs)


def summarised(runs: Mapping[str, Sequence[Sample]]) -> list[Arm]:
    """One figure per arm. An arm with a problem has none."""
    first: Arm | None = None
    arms = []
    for name, samples in runs.items():
        arm = _summarised(name, samples, first)
        first = first or arm
        arms.append(arm)
    return arms


def _summarised(name: str, samples: Sequence[Sample], first: Arm | None) -> Arm:
    problem = next((sample.problem for sample in samples if sample.problem), None)
    if problem is not None:
        return Arm(name, len(samples), None, None, None, None, None, None, {}, problem)
    seconds = statistics.median(sample.seconds for sample in samples)
    cpu_s = statistics.median(sample.cpu_s for sample in samples)
    return Arm(
        name=name,
        runs=len(samples),
        seconds=seconds,
        cpu_s=cpu_s,
        over_first=1.0 if first is None else _ratio(seconds, first.seconds),
        cpu_over_first=1.0 if first is None else _ratio(cpu_s, first.cpu_s),
        peak_mb=max(sample.peak_mb for sample in samples),
        before_mb=min(sample.before_mb for sample in samples),
        facts=samples[0].facts,
        problem=None,
    )


def _ratio(mine: float, other: float | None) -> float | None:
    return mine / other if other else None


def processor() -> str:
    """The processor's class and architecture."""
    try:
        with open("/proc/cpuinfo") as handle:
            names = [line.partition(":")[2].strip() for line in handle if line.startswith("model name")]
    except OSError:  # only Linux has it
        names = []
    return f"{names[0] if names else platform.processor() or 'CPU'}, {platform.machine()}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
