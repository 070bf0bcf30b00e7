"""Seeded random choices: what a budget is worth without any score.

The budget is OmniDrop's; the same seed draws the same tokens on every device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from omnidrop_cli.errors import UsageError
from omnidrop_cli.prune import budget
from omnidrop_cli.prune.base import InputView, LayerView, Method, Plan, PromptInfo, Selection
from omnidrop_cli.prune.groups import MediaLayout
from omnidrop_cli.prune.method_options import check, keep_option, option
from omnidrop_cli.prune.schedule import Schedule, fit, published


@dataclass(frozen=True)
class Random(Method):
    """As many tokens as `omnidrop` keeps, at the input and after every layer, drawn at random."""

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "omnidrop's budgets at every layer, random tokens"
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper-30": {"calibration": "paper-30"},
        "paper-20": {"calibration": "paper-20"},
    }

    keep: float | None = keep_option()
    seed: int = option(0, "draws other tokens", low=0)
    calibration: Literal["solved", "paper-30", "paper-20"] = option("solved", "published schedule constants, or solved for keep")

    def __post_init__(self) -> None:
        check(self)
        if self.calibration != "solved" and self.keep is not None:
            raise UsageError(f"calibration={self.calibration} fixes the budget, and so does keep", "give one of them")

    def plan(self, prompt: PromptInfo) -> Plan:
        layout = MediaLayout.of(prompt.tokens)
        if not layout.total or self.keep == 1:
            return Plan()
        if self.calibration == "solved":
            keep = budget.DEFAULT_KEEP if self.keep is None else self.keep
            settled = budget.solve(layout, Schedule(prompt.num_layers), keep)
        else:
            settled = budget.from_schedule(layout, published(self.calibration, prompt.num_layers))
        return Plan(
            input_stage=RandomInput(settled.input.audio, sum(settled.input.video), self.seed),
            in_llm_stage=RandomDrop(settled.keep_counts, self.seed),
            metadata=settled.metadata(layout),
        )

    def entry_budget(self, layout: MediaLayout, layers: int, keep: float) -> int:
        return budget.solve(layout, Schedule(layers), keep).input.total

    def make_in_llm_stage(self, prompt: PromptInfo, layout: MediaLayout, entering: tuple[int, int], target: int) -> RandomDrop:
        schedule = Schedule(prompt.num_layers)
        p_init = budget.default_p_init(target / (prompt.num_layers * layout.total), schedule)
        return RandomDrop(fit(replace(schedule, p_init=p_init), sum(entering), target)[1], self.seed)


@dataclass(frozen=True)
class RandomInput:
    """Draws what enters layer 0: a number of audio and of video tokens."""

    audio: int
    video: int
    seed: int

    def __call__(self, view: InputView) -> Selection:
        generator = torch.Generator().manual_seed(self.seed)
        return Selection(
            audio=_draw(view.audio.shape[0], self.audio, generator, view.audio),
            video=_draw(view.video.shape[0], self.video, generator, view.video),
        )


@dataclass(frozen=True)
class RandomDrop:
    """Draws what leaves each layer. Every layer has a seed of its own, so a layer's draw does not depend on the ones before."""

    keep_counts: tuple[int, ...]
    seed: int

    def keep_count(self, layer: int, alive: int) -> int:
        return min(alive, self.keep_counts[layer])

    def __call__(self, view: LayerView, keep: int) -> Tensor:
        generator = torch.Generator().manual_seed((self.seed + 1) * 1_000_003 + view.layer)
        return _draw(view.index.shape[0], keep, generator, view.index)


@dataclass(frozen=True)
class RandomAtInput(Method):
    """A random subset at the input, the same for every layer: the rival of methods that act before the language model."""

    name: ClassVar[str] = "random-input"
    summary: ClassVar[str] = "a random subset before the language model"

    keep: float | None = keep_option()
    seed: int = option(0, "draws other tokens", low=0)

    def __post_init__(self) -> None:
        check(self)

    def plan(self, prompt: PromptInfo) -> Plan:
        layout = MediaLayout.of(prompt.tokens)
        if not layout.total or self.keep == 1:
            return Plan()
        audio, video = budget.uniform(layout, budget.DEFAULT_KEEP if self.keep is None else self.keep)
        return Plan(input_stage=RandomInput(audio, video, self.seed), metadata={"audio_kept": audio, "video_kept": video})

    def split_budget(self, layout: MediaLayout, total: int) -> tuple[int, int]:
        return budget.uniform(layout, total / layout.total)

    def make_input_stage(self, prompt: PromptInfo, layout: MediaLayout, audio: int, video: int) -> RandomInput:
        return RandomInput(audio, video, self.seed)


def _draw(present: int, keep: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Ascending; drawn on the CPU, where a seed means the same for every device."""
    return torch.randperm(present, generator=generator)[:keep].sort().values.to(like.device, non_blocking=True)
