"""Parts shared by methods that can be composed (`a+b`), and the base class of methods that act before the decoder only.

A wanted mean retention becomes keep counts here: a total for the input, and its split between audio and video along the ratios a paper
published.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Protocol, runtime_checkable

from omnidrop_cli.errors import UsageError
from omnidrop_cli.prune.base import InLLMStage, InputStage, Method, Plan, PromptInfo
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
    for (left, low), (right, high) in pairwise(points):
        if at <= right:
            return low + (high - low) * (at - left) / (right - left)
    return points[-1][1]


def default_entry_budget(layout: MediaLayout, keep: float) -> int:
    """1.5 times the wanted mean retention, the input level of OmniDrop's 30 % setting."""
    return min(layout.total, max(min(2, layout.total), round(INPUT_SHARE_PER_KEEP * keep * layout.total)))
