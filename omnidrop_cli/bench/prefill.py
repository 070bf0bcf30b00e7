"""Prefill and decode of one prompt under several methods, alternated, so that a slow minute hits every arm.

Knows: arms, repeats, medians, ratios to the unpruned arm. Does not know: clips (any prompt with features will do), tables.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omnidrop_cli.bench.floor import Floor, median
from omnidrop_cli.bench.replay import Replay
from omnidrop_cli.config import PruningConfig
from omnidrop_cli.engine.build_report import flops_of
from omnidrop_cli.engine.encode import MediaFeatures, embed
from omnidrop_cli.engine.metrics import peak_mb, reset_peak, synchronise
from omnidrop_cli.engine.prefill import Prefilled, prefill, step
from omnidrop_cli.events import SILENT, Observer
from omnidrop_cli.prune.methods import create

if TYPE_CHECKING:
    from omnidrop_cli.model.thinker import Thinker
    from omnidrop_cli.outputs import Prompt, Trace
    from omnidrop_cli.prune.base import Method


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One arm. Times are medians in seconds; ratios are to the unpruned arm of the same run.

    `choosing_s` is the pruned prefill minus one that replays its selection; `floor_s` the FLOPs over the measured matmul rate.
    """

    method: str
    keep: float | None
    retention_entering: float
    retention_after: float
    tokens: tuple[int, ...]
    prefill_s: float
    speedup: float
    flops_ratio: float
    floor_s: float
    choosing_s: float
    step_s: float
    step_speedup: float
    kv_mb: float
    peak_mb: float


@dataclass(slots=True)
class _Arm:
    choice: PruningConfig
    method: Method
    trace: Trace
    replay: Method | None
    times: list[float]
    replay_times: list[float]
    step_times: list[float]
    kv_mb: float = 0.0
    peak: float = 0.0


def measure_arms(
    thinker: Thinker,
    prompt: Prompt,
    features: MediaFeatures,
    choices: list[PruningConfig],
    floor: Floor,
    *,
    repeats: int = 3,
    steps: int = 8,
    observer: Observer = SILENT,
) -> list[ArmResult]:
    """Run every choice `repeats` times in alternation; the unpruned arm is added in front if it is missing."""
    if all(choice.name != "none" for choice in choices):
        choices = [PruningConfig("none"), *choices]
    arms = [_prepared(thinker, prompt, features, choice) for choice in choices]
    for repeat in range(repeats):
        for arm in arms if repeat % 2 == 0 else arms[::-1]:
            _measure(thinker, prompt, features, arm, steps)
        observer.advance(repeat + 1, repeats)
    full = next(arm for arm in arms if arm.choice.name == "none")
    return [_result(thinker, arm, full, floor) for arm in arms]


def _prepared(thinker: Thinker, prompt: Prompt, features: MediaFeatures, choice: PruningConfig) -> _Arm:
    method = create(choice)
    trace = _prefill(thinker, prompt, features, method).trace  # also the warm-up
    replay = None if choice.name == "none" else Replay(trace, thinker.device)
    return _Arm(choice, method, trace, replay, [], [], [])


def _measure(thinker: Thinker, prompt: Prompt, features: MediaFeatures, arm: _Arm, steps: int) -> None:
    reset_peak(thinker.device)
    seconds, prefilled = _timed(thinker, prompt, features, arm.method)
    arm.times.append(seconds)
    arm.kv_mb = prefilled.cache.nbytes / 1e6
    arm.peak = max(arm.peak, peak_mb(thinker.device))
    start = time.perf_counter()
    for offset in range(steps):
        step(thinker, prefilled.cache, 1, prefilled.next_position + offset)
    synchronise(thinker.device)
    arm.step_times.append((time.perf_counter() - start) / max(1, steps))
    del prefilled
    if arm.replay is not None:
        arm.replay_times.append(_timed(thinker, prompt, features, arm.replay)[0])


def _timed(thinker: Thinker, prompt: Prompt, features: MediaFeatures, method: Method) -> tuple[float, Prefilled]:
    synchronise(thinker.device)
    start = time.perf_counter()
    prefilled = _prefill(thinker, prompt, features, method)
    synchronise(thinker.device)
    return time.perf_counter() - start, prefilled


def _prefill(thinker: Thinker, prompt: Prompt, features: MediaFeatures, method: Method) -> Prefilled:
    return prefill(thinker, prompt, embed(thinker, prompt, features), features, method)


def _result(thinker: Thinker, arm: _Arm, full: _Arm, floor: Floor) -> ArmResult:
    flops = flops_of(thinker.sizes, arm.trace.prompt.total, arm.trace.kv_lengths)
    seconds, full_seconds = median(arm.times), median(full.times)
    return ArmResult(
        method=arm.method.name,
        keep=arm.choice.keep,
        retention_entering=arm.trace.retention_entering,
        retention_after=arm.trace.retention_after,
        tokens=arm.trace.kv_lengths,
        prefill_s=seconds,
        speedup=full_seconds / seconds,
        flops_ratio=flops.ratio,
        floor_s=floor.seconds(flops.pruned),
        choosing_s=max(0.0, seconds - median(arm.replay_times)) if arm.replay_times else 0.0,
        step_s=median(arm.step_times),
        step_speedup=median(full.step_times) / median(arm.step_times),
        kv_mb=arm.kv_mb,
        peak_mb=arm.peak,
    )
