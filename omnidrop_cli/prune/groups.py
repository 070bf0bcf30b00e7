"""Sizes: how many tokens of which kind a prompt has, in which groups, and how a total is spread over groups.

Knows: frames, chunks, the group of four of temporal merging. Does not know: which share is target, scores, torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from omnidrop_cli.outputs import Modality, TokenMap

GROUP = 4
"""Frames per group of temporal merging (DyCoke TTM): the first is the anchor."""


@dataclass(frozen=True, slots=True)
class MediaLayout:
    """Sizes of a prompt's media: `audio` tokens, and `frames` video frames of `frame_size` tokens each."""

    audio: int
    frames: int
    frame_size: int

    @classmethod
    def of(cls, tokens: TokenMap, *, halves: bool = False) -> MediaLayout:
        """Raises `ValueError` if the temporal grids differ in size. `halves` takes half a grid, a raw frame, as the unit."""
        counts = tokens.counts()
        if not counts.video:
            return cls(counts.audio, 0, 0)
        grids = len(set(tokens.grid[tokens.modality == Modality.VIDEO].tolist()))
        size, rest = divmod(counts.video, grids)
        if rest:
            raise ValueError(f"{counts.video} video tokens do not fill {grids} temporal grids evenly")
        if halves and size % 2 == 0:
            grids, size = grids * 2, size // 2
        return cls(counts.audio, grids, size)

    @property
    def video(self) -> int:
        return self.frames * self.frame_size

    @property
    def total(self) -> int:
        return self.audio + self.video

    @property
    def anchors(self) -> int:
        return -(-self.frames // GROUP)


@dataclass(frozen=True, slots=True)
class InputBudget:
    """What enters layer 0: so many audio tokens, and so many of each video frame."""

    audio: int
    video: tuple[int, ...]

    @property
    def total(self) -> int:
        return self.audio + sum(self.video)

    @classmethod
    def of_rates(cls, layout: MediaLayout, audio_rate: float, video_rate: float) -> InputBudget:
        """Shares of whole groups of four frames; a shorter last group keeps its anchor too, as the merging rule does.

        A present modality keeps at least one token.
        """
        audio = _at_least_one(audio_rate * layout.audio, layout.audio)
        anchors = layout.anchors * layout.frame_size
        followers = layout.video - anchors
        if video_rate >= 1 / GROUP:
            video = anchors + followers * (GROUP * video_rate - 1) / (GROUP - 1)
        else:
            video = anchors * GROUP * video_rate
        return cls.of_counts(layout, audio, _at_least_one(video, layout.video))

    @classmethod
    def of_counts(cls, layout: MediaLayout, audio: int, video: int) -> InputBudget:
        """`video` tokens spread over frames as merging does it."""
        return cls(audio, temporal_merge_counts((layout.frame_size,) * layout.frames, video))

    @classmethod
    def of_total(cls, layout: MediaLayout, total: int, audio: int) -> InputBudget:
        """Exactly `total` tokens, with `audio` of them sound as far as the sizes allow."""
        audio = min(layout.audio, max(audio, total - layout.video), total)
        return cls.of_counts(layout, audio, total - audio)


@dataclass(frozen=True, slots=True)
class Segments:
    """Tokens of one modality in numbered groups: `number` of each token's group, from 0, and the `sizes` of the groups."""

    number: tuple[int, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, keys: Sequence[int]) -> Segments:
        """Groups of equal keys, numbered in the order of the keys."""
        order = {key: place for place, key in enumerate(sorted(set(keys)))}
        number = tuple(order[key] for key in keys)
        counted = Counter(number)
        return cls(number, tuple(counted[place] for place in range(len(order))))

    @classmethod
    def of_chunks(cls, tokens: TokenMap, modality: Modality) -> Segments:
        return cls.of(tokens.chunk[tokens.modality == modality].tolist())

    def keep_counts(self, total: int) -> tuple[int, ...]:
        """`total` split over the groups by size, to within one token of the exact share."""
        return proportional(self.sizes, total)


def frame_chunks(tokens: TokenMap, frame_size: int) -> tuple[int, ...]:
    """The chunk of each video frame."""
    return tuple(tokens.chunk[tokens.modality == Modality.VIDEO][::frame_size].tolist()) if frame_size else ()


def temporal_merge_counts(sizes: Sequence[int], total: int) -> tuple[int, ...]:
    """`total` tokens over frames of `sizes`: anchors whole and the rest in proportion, or, where that is too much, anchors alone."""
    anchors = [0 if frame % GROUP else size for frame, size in enumerate(sizes)]
    if total < sum(anchors):
        return proportional(anchors, total)
    followers = [size if frame % GROUP else 0 for frame, size in enumerate(sizes)]
    more = proportional(followers, total - sum(anchors))
    return tuple(anchor + follower for anchor, follower in zip(anchors, more, strict=True))


def proportional(sizes: Sequence[int], total: int) -> tuple[int, ...]:
    """`total` split by `sizes`: each within one of its exact share, spread evenly along the way."""
    whole = max(1, sum(sizes))
    ends = [end * total // whole for end in accumulate(sizes)]
    return tuple(end - start for start, end in zip([0, *ends], ends, strict=False))


def _at_least_one(target: float, present: int) -> int:
    return min(present, max(min(present, 1), round(target)))
