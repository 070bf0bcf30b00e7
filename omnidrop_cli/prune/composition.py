"""Methods as parts that combine: one chooses what enters the decoder, the other drops inside it.

Knows: how a wanted mean becomes counts for a method that acts only at the input, how audio and video share them along the ratios a
paper published, and what a method must offer to be half of a composition. Does not know: any selection rule.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Protocol, runtime_checkable

from omnidrop_cli.errors import UsageError
from omnidrop_cli.prune.base import BeforeStage, InsideStage, Method, Plan, PromptFacts
from omnidrop_cli.prune.budget import DEFAULT_KEEP, INPUT_SHARE_PER_KEEP
from omnidrop_cli.prune.groups import MediaLayout
from omnidrop_cli.prune.method_options import check, keep_option, option


@runtime_checkable
class InputPart(Protocol):
    """A method whose choice before the language model can be had alone."""

    def split(self, layout: MediaLayout, total: int) -> tuple[int, int]:
        """`total` tokens as (audio, video)."""
        ...

    def stage(self, facts: PromptFacts, layout: MediaLayout, audio: int, video: int) -> BeforeStage:
        """The stage that keeps exactly these counts."""
        ...


@runtime_checkable
class InsidePart(Protocol):
    """A method whose drop inside the decoder can be had alone."""

    def opening(self, layout: MediaLayout, layers: int, keep: float) -> int:
        """How many tokens should enter layer 0 for a mean of `keep`."""
        ...

    def inside(self, facts: PromptFacts, layout: MediaLayout, entering: tuple[int, int], wanted: int) -> InsideStage:
        """The stage whose counts sum to `wanted` over the layers when `entering` (audio, video) tokens reach layer 0."""
        ...


@dataclass(frozen=True)
class InputMethod(Method):
    """A method that acts before the language model and nowhere else: every layer sees what enters.

    `ratios` are the (video, audio) shares kept together in the paper's settings; between them, and on to (0, 0) and (1, 1), the
    shares are interpolated, so that any `keep` has a split and the published ones are on the way.
    """

    ratios: ClassVar[Sequence[tuple[float, float]]] = ()

    keep: float | None = keep_option()
    audio_keep: float | None = option(None, "share of audio kept, instead of keep", low=0, high=1)
    video_keep: float | None = option(None, "share of video kept, instead of keep", low=0, high=1)

    def __post_init__(self) -> None:
        check(self)
        if (self.audio_keep is None) != (self.video_keep is None):
            raise UsageError("audio_keep and video_keep go together", "give both, or --keep")
        if self.audio_keep is not None and self.keep is not None:
            raise UsageError("keep and audio_keep both set the budget", "give one of them")

    def plan(self, facts: PromptFacts) -> Plan:
        layout = MediaLayout.of(facts.tokens)
        audio, video = self.counts(layout)
        if audio + video == layout.total:
            return Plan()
        return Plan(before=self.stage(facts, layout, audio, video), notes={"audio_kept": audio, "video_kept": video})

    def counts(self, layout: MediaLayout) -> tuple[int, int]:
        """(audio, video) tokens kept of one prompt; at least one where there is one."""
        if self.audio_keep is not None and self.video_keep is not None:
            audio, video = round(self.audio_keep * layout.audio), round(self.video_keep * layout.video)
            return (audio, video) if audio + video else self.split(layout, min(1, layout.total))
        keep = DEFAULT_KEEP if self.keep is None else self.keep
        return self.split(layout, max(min(1, layout.total), round(keep * layout.total)))

    def split(self, layout: MediaLayout, total: int) -> tuple[int, int]:
        return split_along(self.ratios, layout, total)

    @abstractmethod
    def stage(self, facts: PromptFacts, layout: MediaLayout, audio: int, video: int) -> BeforeStage: ...


def split_along(ratios: Sequence[tuple[float, float]], layout: MediaLayout, total: int) -> tuple[int, int]:
    """`total` as (audio, video) tokens on the line through the (video, audio) shares of `ratios`; a present modality keeps one."""
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
    """Piecewise linear through ascending `points`."""
    for (left, low), (right, high) in pairwise(points):
        if at <= right:
            return low + (high - low) * (at - left) / (right - left)
    return points[-1][1]


def default_opening(layout: MediaLayout, keep: float) -> int:
    """1.5 times the wanted mean, as OmniDrop's paper opens its 30 % setting."""
    return min(layout.total, max(min(2, layout.total), round(INPUT_SHARE_PER_KEEP * keep * layout.total)))
