"""Prefill of one prompt under several pruning methods, alternated, relative to the unpruned prefill of the same bench."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from omnidrop_cli.bench.device import sample_here
from omnidrop_cli.bench.floor import Floor
from omnidrop_cli.bench.measurement import Group, Measurement, Sample, alternate
from omnidrop_cli.bench.subprocess_run import Tell
from omnidrop_cli.config import PruningConfig
from omnidrop_cli.engine.build_report import flops_of
from omnidrop_cli.engine.decode_step import step
from omnidrop_cli.engine.encode import MediaFeatures, embed
from omnidrop_cli.engine.metrics import synchronise
from omnidrop_cli.engine.prefill import Prefilled, prefill
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.prune.methods import get_method

if TYPE_CHECKING:
    from omnidrop_cli.model.thinker import Thinker
    from omnidrop_cli.outputs import Prompt
    from omnidrop_cli.prune.base import Method

STEPS = 8
"""Decoding steps timed behind every prefill."""


def label(choice: PruningConfig) -> str:
    """A method with its budget, as --methods takes it."""
    budget = choice.preset if choice.keep is None else f"{choice.keep:g}"
    return choice.name if budget is None else f"{choice.name}@{budget}"


def measure_prefill(
    thinker: Thinker,
    prompt: Prompt,
    features: MediaFeatures,
    choices: Sequence[PruningConfig],
    floor: Floor,
    *,
    repeats: int = 3,
    progress: ProgressCallback = SILENT,
) -> Group:
    """Prefill `prompt` under every choice, the unpruned prefill first; it is added where it is missing.

    Each run's facts: retention in both conventions, the prefill's FLOPs and their share of the unpruned one's, tokens cached per layer,
    `over_floor` (seconds divided by the time of its matrix products alone), seconds per decoding step, megabytes of the cache.
    """
    pruned = [choice for choice in choices if choice.name != "none"]
    runs = {label(choice): partial(_sample, thinker, prompt, features, get_method(choice)) for choice in (PruningConfig("none"), *pruned)}
    return Group("prefill", [_over_floor(run, floor) for run in alternate(runs, repeats, progress)])


def _sample(thinker: Thinker, prompt: Prompt, features: MediaFeatures, method: Method) -> Sample:
    def work() -> Tell:
        embeds = embed(thinker, prompt, features)
        return partial(_facts, thinker, prefill(thinker, prompt, embeds, features, method))

    return sample_here(thinker.device, work)


def _facts(thinker: Thinker, prefilled: Prefilled) -> dict[str, Any]:
    trace, kv_mb = prefilled.trace, prefilled.cache.nbytes / 1e6
    flops = flops_of(thinker.sizes, trace.prompt.total, trace.kv_lengths)
    return {
        "retention_entering": trace.retention_entering,
        "retention_after": trace.retention_after,
        "flops": flops.pruned,
        "flops_ratio": flops.ratio,
        "tokens": list(trace.kv_lengths),
        "token_s": _step_s(thinker, prefilled),
        "kv_mb": kv_mb,
    }


def _step_s(thinker: Thinker, prefilled: Prefilled) -> float:
    start = time.perf_counter()
    for offset in range(STEPS):
        step(thinker, prefilled.cache, 1, prefilled.next_position + offset)
    synchronise(thinker.device)
    return (time.perf_counter() - start) / STEPS


def _over_floor(run: Measurement, floor: Floor) -> Measurement:
    if run.seconds is None:
        return run
    return replace(run, facts={**run.facts, "over_floor": run.seconds / floor.seconds(run.facts["flops"])})
