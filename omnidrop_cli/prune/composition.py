"""Parts shared by methods that can be composed (`a+b`), and the base classes of methods with an input stage.

A wanted mean retention becomes keep counts here: a total for the input, and its split between audio and video along the ratios a paper
published.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from omnidrop_cli.errors import UsageError
from omnidrop_cli.prune.base import SCOPE_HELP, InLLMStage, InputStage, Method, Plan, PromptInfo, audio_attention_need
from omnidrop_cli.prune.budget import DEFAULT_KEEP, INPUT_SHARE_PER_KEEP
from omnidrop_cli.prune.groups import MediaLayout
from omnidrop_cli.prune.method_options import check, keep_option, option


@runtime_checkable
class HasInputStage(Protocol):
    """A method whose input stage can be used alone: the first half of a composition."""

    def split_budget(self, layout: MediaLayout, total: int) -> tuple[int, int]:
        """`total` tokens as (audio, video) keep counts."""
        ...

    def make_input_stage(self, prompt: PromptInfo, layout: MediaLayout, audio: int, video: int) -> InputStage:
        """The stage that keeps exactly `audio` and `video` tokens."""
        ...


@runtime_checkable
class HasInLLMStage(Protocol):
    """A method whose in-LLM stage can be used alone: the second half of a composition."""

    def entry_budget(self, layout: MediaLayout, layers: int, keep: float) -> int:
        """Number of tokens that should enter layer 0 for a mean retention of `keep`."""
        ...

    def make_in_llm_stage(self, prompt: PromptInfo, layout: MediaLayout, entering: tuple[int, int], target: int) -> InLLMStage:
        """The stage whose keep counts sum to `target` over the layers when `entering` (audio, video) tokens reach layer 0."""
        ...


@dataclass(frozen=True)
class InputMethod(Method):
    """A method that acts before the decoder only: every layer sees what enters layer 0.

    `ratios` are the (video, audio) retention ratios of the paper's settings. Between them, and towards (0, 0) and (1, 1), ratios are
    interpolated linearly, so that every `keep` has a split and the published splits are reached exactly.
    """

    ratios: ClassVar[Sequence[tuple[float, float]]] = ()

    keep: float | None = keep_option()
    audio_keep: float | None = option(None, "retention ratio of audio, instead of keep", low=0, high=1)
    video_keep: float | None = option(None, "retention ratio of video, instead of keep", low=0, high=1)

    def __post_init__(self) -> None:
        check(self)
        if (self.audio_keep is None) != (self.video_keep is None):
            raise UsageError("audio_keep and video_keep go together", "give both, or `keep`")
        if self.audio_keep is not None and self.keep is not None:
            raise UsageError("keep and audio_keep both set the budget", "give one of them")

    def plan(self, prompt: PromptInfo) -> Plan:
        layout = MediaLayout.of(prompt.tokens)
        audio, video = self.counts(layout)
        if audio + video == layout.total:
            return Plan()
        stage = self.make_input_stage(prompt, layout, audio, video)
        return Plan(input_stage=stage, metadata={"audio_kept": audio, "video_kept": video})

    def counts(self, layout: MediaLayout) -> tuple[int, int]:
        """(audio, video) keep counts of one prompt; at least one token where there is one."""
        if self.audio_keep is not None and self.video_keep is not None:
            audio, video = round(self.audio_keep * layout.audio), round(self.video_keep * layout.video)
            return (audio, video) if audio + video else self.split_budget(layout, min(1, layout.total))
        keep = DEFAULT_KEEP if self.keep is None else self.keep
        return self.split_budget(layout, max(min(1, layout.total), round(keep * layout.total)))

    def split_budget(self, layout: MediaLayout, total: int) -> tuple[int, int]:
        """`total` tokens as (audio, video) keep counts along `ratios`."""
        return split_along(self.ratios, layout, total)

    @abstractmethod
    def make_input_stage(self, prompt: PromptInfo, layout: MediaLayout, audio: int, video: int) -> InputStage:
        """The stage that keeps exactly `audio` and `video` tokens."""


@dataclass(frozen=True)
class TwoStageMethod(InputMethod):
    """A method with an input stage and an in-LLM stage, which read the attention of both encoders.

    `ratios`, `audio_keep` and `video_keep` are the paper's own: `entry_scale` times as many tokens enter layer 0, and the in-LLM stage
    drops the rest.
    """

    audio_scope: Literal["window", "clip"] = option("window", SCOPE_HELP)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({audio_attention_need(self.audio_scope), "video_attention"})

    @property
    def entry_scale(self) -> float:
        """Tokens that enter layer 0, as a multiple of those that the ratios name."""
        return INPUT_SHARE_PER_KEEP

    def plan(self, prompt: PromptInfo) -> Plan:
        layout = MediaLayout.of(prompt.tokens)
        if not layout.total or self.keep == 1:
            return Plan()
        if self.audio_keep is not None and self.video_keep is not None:
            entering = (
                _scaled(self.entry_scale * self.audio_keep, layout.audio),
                _scaled(self.entry_scale * self.video_keep, layout.video),
            )
            stage = self.in_llm_stage_of_ratios(prompt, layout, entering)
        else:
            keep = DEFAULT_KEEP if self.keep is None else self.keep
            entering = self.split_budget(layout, self.entry_budget(layout, prompt.num_layers, keep))
            stage = self.make_in_llm_stage(prompt, layout, entering, layer_sum(layout, prompt.num_layers, keep))
        return two_stage_plan(prompt, layout, entering, self.make_input_stage, stage)

    def split_budget(self, layout: MediaLayout, total: int) -> tuple[int, int]:
        """Along `ratios`, each times `entry_scale`."""
        scale = self.entry_scale
        return split_along([(min(1.0, scale * video), min(1.0, scale * audio)) for video, audio in self.ratios], layout, total)

    def entry_budget(self, layout: MediaLayout, layers: int, keep: float) -> int:
        """Number of tokens that should enter layer 0 for a mean retention of `keep`."""
        return min(layout.total, max(min(2, layout.total), round(self.entry_scale * keep * layout.total)))

    @abstractmethod
    def make_in_llm_stage(self, prompt: PromptInfo, layout: MediaLayout, entering: tuple[int, int], target: int) -> InLLMStage:
        """The stage whose keep counts sum to `target` over the layers when `entering` (audio, video) tokens reach layer 0."""

    def in_llm_stage_of_ratios(self, prompt: PromptInfo, layout: MediaLayout, entering: tuple[int, int]) -> InLLMStage:
        """The stage for `audio_keep` and `video_keep`. Here they are means after the cut; a paper may count otherwise."""
        kept = (self.audio_keep or 0) * layout.audio + (self.video_keep or 0) * layout.video
        return self.make_in_llm_stage(prompt, layout, entering, max(1, round(kept * prompt.num_layers)))


def layer_sum(layout: MediaLayout, layers: int, keep: float) -> int:
    """Tokens after the cut, summed over the layers, for a mean retention of `keep`."""
    return max(1, round(keep * layers * layout.total))


def two_stage_plan(
    prompt: PromptInfo,
    layout: MediaLayout,
    entering: tuple[int, int],
    make_input_stage: Callable[[PromptInfo, MediaLayout, int, int], InputStage],
    in_llm_stage: InLLMStage,
) -> Plan:
    """The plan by which `entering` (audio, video) tokens reach layer 0 and `in_llm_stage` drops some of them."""
    counts = [sum(entering)]
    for layer in range(prompt.num_layers):
        counts.append(in_llm_stage.keep_count(layer, counts[-1]))
    scale = prompt.num_layers * layout.total
    return Plan(
        input_stage=None if counts[0] == layout.total else make_input_stage(prompt, layout, *entering),
        in_llm_stage=in_llm_stage,
        metadata={
            "audio_entering": entering[0],
            "video_entering": entering[1],
            "last_layers": counts[-1],
            "retention_after": round(sum(counts[1:]) / scale, 4),
            "retention_entering": round(sum(counts[:-1]) / scale, 4),
        },
    )


def paper_ratios(presets: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[float, float], ...]:
    """The (video, audio) retention ratios of a method's presets `paper` and `paper-N`, ascending."""
    return tuple(sorted({(one["video_keep"], one["audio_keep"]) for name, one in presets.items() if name.startswith("paper")}))


def split_along(ratios: Sequence[tuple[float, float]], layout: MediaLayout, total: int) -> tuple[int, int]:
    """`total` as (audio, video) keep counts on the polyline through the (video, audio) `ratios`; a present modality keeps one token."""
    points = [(0.0, 0.0), *sorted(ratios), (1.0, 1.0)]
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if middle * layout.video + interpolated(points, middle) * layout.audio > total:
            high = middle
        else:
            low = middle
    most = min(layout.audio, total - min(1, layout.video)) if total > 1 else min(layout.audio, total)
    audio = max(total - layout.video, min(1, layout.audio, total), min(most, round(interpolated(points, low) * layout.audio)))
    return audio, total - audio


def interpolated(points: Sequence[tuple[float, float]], at: float) -> float:
    """Value at `at` of the piecewise linear function through ascending `points`."""
    places, values = zip(*points, strict=True)
    return float(np.interp(at, places, values))


def _scaled(share: float, present: int) -> int:
    """`share` of the tokens `present`, at least one of any and at most all."""
    return min(present, max(min(present, 1), round(share * present)))


def default_entry_budget(layout: MediaLayout, keep: float) -> int:
    """1.5 times the wanted mean retention, the input level of OmniDrop's 30 % setting."""
    return min(layout.total, max(min(2, layout.total), round(INPUT_SHARE_PER_KEEP * keep * layout.total)))
