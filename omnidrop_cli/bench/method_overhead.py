"""What a method's own work costs beside a full prefill: its plan, and its stages before and inside the decoder.

Knows: a method whose stages are clocked. Does not know: what a stage does, the towers, the cutting of rows after a decision.
The clock drains the device at every stage, so on a GPU the sum is more than a prefill without clocks would spend on it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, ClassVar

from omnidrop_cli.bench.device_name import device_name, sample_here
from omnidrop_cli.bench.measurement import Arm, Group, Sample, Sheet, alternate
from omnidrop_cli.bench.memory import label
from omnidrop_cli.bench.subprocess_run import cpu_seconds
from omnidrop_cli.bench.synthetic import noise_features, papers_prompt
from omnidrop_cli.config import PruningConfig
from omnidrop_cli.engine.encode import embed
from omnidrop_cli.engine.metrics import Stopwatch
from omnidrop_cli.engine.prefill import prefill
from omnidrop_cli.events import SILENT, Observer
from omnidrop_cli.prune.base import InLLMStage, InputStage, InputView, LayerSelection, LayerView, Method, Plan, PromptInfo, Selection
from omnidrop_cli.prune.methods import create

if TYPE_CHECKING:
    from torch import Tensor

    from omnidrop_cli.bench.subprocess_run import Tell
    from omnidrop_cli.engine.session import Session

FULL = "full prefill"
PLAN, BEFORE, INSIDE = "plan", "before", "inside"


def bench_choosing(
    session: Session, seconds: float, choices: Sequence[PruningConfig], *, depth: int = 0, repeats: int = 3, observer: Observer = SILENT
) -> Sheet:
    """The whole unpruned prefill, and beside it what each method spends on deciding, on noise in the papers' layout.

    `of_whole_depth` is the share of a full prefill of `depth` layers (the model's own for 0), at most: what comes before the decoder
    happens once at any depth, and what happens inside is taken to grow with it.
    """
    thinker = session.thinker
    prompt = papers_prompt(thinker, seconds)
    features = noise_features(thinker, prompt)

    def run(method: Method) -> Tell:
        prefill(thinker, prompt, embed(thinker, prompt, features), features, method)
        return dict

    clocks: dict[str, list[Clock]] = defaultdict(list)

    def clocked(name: str, method: Method) -> Sample:
        clock = Clock(Stopwatch(thinker.device))
        clocks[name].append(clock)
        sample = sample_here(thinker.device, partial(run, Clocked(method, clock)))
        return replace(sample, seconds=sum(clock.parts.seconds.values()), cpu_s=clock.cpu_s)

    unpruned = create(PruningConfig("none"))
    observer.stage("prefill", f"{len(prompt)} tokens")
    runs: dict[str, Callable[[], Sample]] = {FULL: partial(sample_here, thinker.device, partial(run, unpruned))}
    runs |= {label(choice): partial(clocked, label(choice), create(choice)) for choice in choices}
    layers = thinker.sizes.num_layers
    full, *arms = alternate(runs, repeats, observer)
    arms = [_told(arm, clocks[arm.name], full, (depth or layers) / layers) for arm in arms]
    group = Group(f"{seconds:g} s in the papers' layout, {len(prompt)} tokens, {layers} decoder layers", [full, *arms])
    facts = {"model": thinker.loaded.name, "dtype": thinker.loaded.dtype, "depth": depth or layers}
    return Sheet("choosing", device_name(thinker.device), repeats, [group], ("torch", "transformers"), facts)


@dataclass(slots=True)
class Clock:
    """Wall seconds per part, and processor seconds of all."""

    parts: Stopwatch
    cpu_s: float = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        used = cpu_seconds()
        with self.parts.stage(name):
            yield
        self.cpu_s += cpu_seconds() - used

    def once_s(self) -> float:
        return self.parts.seconds.get(PLAN, 0.0) + self.parts.seconds.get(BEFORE, 0.0)

    def inside_s(self) -> float:
        return self.parts.seconds.get(INSIDE, 0.0)


@dataclass(frozen=True, eq=False)
class Clocked(Method):
    """`method`, with a clock at each of its parts."""

    name: ClassVar[str] = "clocked"
    summary: ClassVar[str] = "another method, clocked"

    method: Method
    clock: Clock

    def plan(self, prompt: PromptInfo) -> Plan:
        with self.clock.part(PLAN):
            plan = self.method.plan(prompt)
        before = None if plan.input_stage is None else partial(self._before, plan.input_stage)
        return Plan(before, None if plan.in_llm_stage is None else _Inside(plan.in_llm_stage, self.clock), plan.metadata)

    def _before(self, stage: InputStage, view: InputView) -> Selection:
        with self.clock.part(BEFORE):
            return stage(view)


@dataclass(frozen=True, slots=True)
class _Inside:
    stage: InLLMStage
    clock: Clock

    def keep_count(self, layer: int, alive: int) -> int:
        return self.stage.keep_count(layer, alive)

    def __call__(self, view: LayerView, keep: int) -> Tensor | LayerSelection:
        with self.clock.part(INSIDE):
            return self.stage(view, keep)


def _told(arm: Arm, clocks: Sequence[Clock], full: Arm, deeper: float) -> Arm:
    if arm.seconds is None or not full.seconds:
        return arm
    once, inside = median(clock.once_s() for clock in clocks), median(clock.inside_s() for clock in clocks)
    facts: Mapping[str, float] = {"before_s": once, "inside_s": inside, "of_whole_depth": (once / deeper + inside) / full.seconds}
    return replace(arm, facts=facts)
