"""Time that a method spends on its decisions, relative to a full prefill: its plan, its input stage, its in-LLM stage.

Two measurements, since draining a GPU at every stage overstates the first: clocks at every stage, and the difference between the pruned
prefill and one that replays its recorded selection (`replay.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from omnidrop_cli.bench.device import device_name, sample_here
from omnidrop_cli.bench.measurement import BenchReport, Group, Measurement, Sample, alternate
from omnidrop_cli.bench.prefilling import label
from omnidrop_cli.bench.subprocess_run import cpu_seconds
from omnidrop_cli.bench.synthetic import noise_features, papers_prompt
from omnidrop_cli.config import PruningConfig
from omnidrop_cli.engine.encode import embed
from omnidrop_cli.engine.metrics import Stopwatch
from omnidrop_cli.engine.prefill import prefill
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.prune.base import InLLMStage, InputStage, InputView, LayerSelection, LayerView, Method, Plan, PromptInfo, Selection
from omnidrop_cli.prune.methods import get_method
from tests.benchmarks.replay import Replay

if TYPE_CHECKING:
    from torch import Tensor

    from omnidrop_cli.bench.subprocess_run import Tell
    from omnidrop_cli.engine.session import Session
    from omnidrop_cli.outputs import Trace

FULL = "full prefill"
PLAN, INPUT, IN_LLM = "plan", "input stage", "in-LLM stage"


def bench_overhead(
    session: Session,
    seconds: float,
    choices: Sequence[PruningConfig],
    *,
    depth: int = 0,
    repeats: int = 3,
    progress: ProgressCallback = SILENT,
) -> BenchReport:
    """The unpruned prefill, and what each method spends on its decisions, on noise in the papers' layout.

    `decision_share` is the clocked time's share of a full prefill of `depth` layers (0: the model's own), an upper bound: the input stage
    runs once at any depth, and in-LLM stages are taken to grow with it. `replay_share` is the same from the replays, at the model's depth.
    """
    thinker = session.thinker
    prompt = papers_prompt(thinker, seconds)
    features = noise_features(thinker, prompt)

    def run(method: Method) -> Trace:
        return prefill(thinker, prompt, embed(thinker, prompt, features), features, method).trace

    def sample(method: Method) -> Sample:
        def work() -> Tell:
            run(method)
            return dict

        return sample_here(thinker.device, work)

    def clocked(method: Method) -> Sample:
        clock = Clock(Stopwatch(thinker.device))
        taken = sample(Clocked(method, clock))
        facts = {"before_s": clock.before_s(), "in_llm_s": clock.in_llm_s()}
        return replace(taken, seconds=sum(clock.parts.seconds.values()), cpu_s=clock.cpu_s, facts=facts)

    progress.stage("prefill", f"{len(prompt)} tokens")
    runs: dict[str, Callable[[], Sample]] = {FULL: partial(sample, get_method(PruningConfig("none")))}
    for choice in choices:
        method = get_method(choice)
        name = label(choice)
        runs |= {
            name: partial(clocked, method),
            _pruned(name): partial(sample, method),
            _replayed(name): partial(sample, Replay(run(method), thinker.device)),
        }
    layers = thinker.sizes.num_layers
    measured = {found.name: found for found in alternate(runs, repeats, progress)}
    shown = [measured[FULL], *(_with_shares(label(choice), measured, (depth or layers) / layers) for choice in choices)]
    group = Group(f"{seconds:g} s in the papers' layout, {len(prompt)} tokens, {layers} decoder layers", shown)
    facts = {"model": thinker.loaded.name, "dtype": thinker.loaded.dtype, "depth": depth or layers}
    return BenchReport("overhead", device_name(thinker.device), repeats, [group], ("torch", "transformers"), facts)


def _pruned(name: str) -> str:
    return f"{name}, pruned prefill"


def _replayed(name: str) -> str:
    return f"{name}, replayed prefill"


def _with_shares(name: str, measured: Mapping[str, Measurement], deeper: float) -> Measurement:
    clocked, full, pruned, replayed = (measured[key] for key in (name, FULL, _pruned(name), _replayed(name)))
    if clocked.seconds is None or not full.seconds or pruned.seconds is None or replayed.seconds is None:
        return clocked
    share = (clocked.facts["before_s"] / deeper + clocked.facts["in_llm_s"]) / full.seconds
    replay = max(0.0, pruned.seconds - replayed.seconds) / full.seconds
    return replace(clocked, facts={**clocked.facts, "decision_share": share, "replay_share": replay})


@dataclass(slots=True)
class Clock:
    """Wall seconds of each part of a method, and processor seconds of all of them."""

    parts: Stopwatch
    cpu_s: float = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        used = cpu_seconds()
        with self.parts.stage(name):
            yield
        self.cpu_s += cpu_seconds() - used

    def before_s(self) -> float:
        """Seconds before the decoder."""
        return self.parts.seconds.get(PLAN, 0.0) + self.parts.seconds.get(INPUT, 0.0)

    def in_llm_s(self) -> float:
        """Seconds between the decoder's layers."""
        return self.parts.seconds.get(IN_LLM, 0.0)


@dataclass(frozen=True, eq=False)
class Clocked(Method):
    """`method`, with a clock at each of its parts."""

    name: ClassVar[str] = "clocked"
    summary: ClassVar[str] = "another method, clocked"

    method: Method
    clock: Clock

    @property
    def needs(self) -> frozenset[str]:
        return self.method.needs

    def plan(self, prompt: PromptInfo) -> Plan:
        with self.clock.part(PLAN):
            plan = self.method.plan(prompt)
        stage = None if plan.input_stage is None else partial(self._input_stage, plan.input_stage)
        return Plan(stage, None if plan.in_llm_stage is None else _InLLM(plan.in_llm_stage, self.clock), plan.metadata)

    def _input_stage(self, stage: InputStage, view: InputView) -> Selection:
        with self.clock.part(INPUT):
            return stage(view)


@dataclass(frozen=True, slots=True)
class _InLLM:
    stage: InLLMStage
    clock: Clock

    def keep_count(self, layer: int, alive: int) -> int:
        return self.stage.keep_count(layer, alive)

    def __call__(self, view: LayerView, keep: int) -> Tensor | LayerSelection:
        with self.clock.part(IN_LLM):
            return self.stage(view, keep)
