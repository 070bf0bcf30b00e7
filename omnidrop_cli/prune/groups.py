"""Host-side sizes of a prompt's media: frames, windows, groups, and how a total token budget is spread over them."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from omnidrop_cli.outputs import SECONDS_PER_CHUNK, Modality, TokenMap

GROUP = 4
"""Frames per group of temporal merging (DyCoke TTM): the first is the reference frame."""

AUDIO_WINDOW = 50
"""Audio tokens of a window: two seconds at 25 tokens a second."""


@dataclass(frozen=True, slots=True)
class MediaLayout:
    """Sizes of a prompt's media: `audio` tokens, and `frames` video frames of `frame_size` tokens each."""

    audio: int
    frames: int
    frame_size: int

    @classmethod
    def of(cls, tokens: TokenMap, *, halves: bool = False) -> MediaLayout:
        """The layout of `tokens`.

        Args:
            tokens: what every prompt token is.
            halves: count each half of a temporal grid as a frame, as OmniZip's first code and DASH's code do.

        Raises:
            ValueError: the temporal grids differ in size.
        """
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
    def reference_frames(self) -> int:
        """Frames that temporal merging keeps whole: the first of every group of four."""
        return -(-self.frames // GROUP)


@dataclass(frozen=True, slots=True)
class InputBudget:
    """What enters layer 0: `audio` tokens, and `video[f]` tokens of video frame f."""

    audio: int
    video: tuple[int, ...]

    @property
    def total(self) -> int:
        return self.audio + sum(self.video)

    @classmethod
    def of_ratios(cls, layout: MediaLayout, audio_ratio: float, video_ratio: float) -> InputBudget:
        """Keep counts for two retention ratios; a present modality keeps at least one token.

        `video_ratio` is that of a whole group of four frames. A shorter last group keeps its reference frame too, as the merging rule does.
        """
        audio = _at_least_one(audio_ratio * layout.audio, layout.audio)
        references = layout.reference_frames * layout.frame_size
        others = layout.video - references
        if video_ratio >= 1 / GROUP:
            video = references + others * (GROUP * video_ratio - 1) / (GROUP - 1)
        else:
            video = references * GROUP * video_ratio
        return cls.of_counts(layout, audio, _at_least_one(video, layout.video))

    @classmethod
    def of_counts(cls, layout: MediaLayout, audio: int, video: int) -> InputBudget:
        """`video` tokens spread over frames as temporal merging does."""
        return cls(audio, temporal_merge_counts((layout.frame_size,) * layout.frames, video))

    @classmethod
    def of_total(cls, layout: MediaLayout, total: int, audio: int) -> InputBudget:
        """Exactly `total` tokens, `audio` of them audio as far as the sizes allow."""
        audio = min(layout.audio, max(audio, total - layout.video), total)
        return cls.of_counts(layout, audio, total - audio)


@dataclass(frozen=True, slots=True)
class Segments:
    """Tokens in numbered groups: `number[i]` is the group of token i, from 0, and `sizes[g]` the number of tokens of group g."""

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
        """Tokens of `modality` by the prompt's two-second chunks."""
        return cls.of(tokens.chunk[tokens.modality == modality].tolist())

    @classmethod
    def windows(cls, count: int, size: int) -> Segments:
        """`count` tokens in windows of `size` consecutive ones; the last may be shorter."""
        return cls.of([token // size for token in range(count)])

    def keep_counts(self, total: int) -> tuple[int, ...]:
        """`total` split over the groups by size, to within one token of the exact share."""
        return proportional(self.sizes, total)


@dataclass(frozen=True, slots=True)
class GridPairs:
    """Windows of two consecutive temporal grids, and the audio heard meanwhile.

    OmniZip, OmniSIFT and SEATS define their windows so. In the published layout (one second a grid) a pair is a two-second chunk of the
    prompt; at other frame rates it is not, and a chunk may hold one grid or none.

    Attributes:
        count: number of pairs; an odd last grid is a pair of its own.
        grid: the pair of each temporal grid.
        audio: the pair of each audio token, -1 for audio outside every pair.
    """

    count: int
    grid: tuple[int, ...]
    audio: tuple[int, ...]

    @classmethod
    def of(cls, tokens: TokenMap, *, trailing: bool = False) -> GridPairs:
        """The pairs of a prompt.

        Args:
            tokens: what every prompt token is.
            trailing: audio after the last grid belongs to the last pair (OmniSIFT's code) instead of to none.
        """
        is_video, is_audio = tokens.modality == Modality.VIDEO, tokens.modality == Modality.AUDIO
        starts: list[float] = []
        for grid, time in zip(tokens.grid[is_video].tolist(), tokens.time_s[is_video].tolist(), strict=True):
            if grid == len(starts):
                starts.append(time)
        grids = len(starts)
        count = -(-grids // 2)
        end = float("inf")
        if starts and not trailing:
            seconds = (starts[-1] - starts[0]) / (grids - 1) if grids > 1 else SECONDS_PER_CHUNK / 2
            end = starts[-1] + seconds * (2 * count - grids + 1)
        pair_starts = starts[::2]
        audio = tuple(
            max(0, bisect_right(pair_starts, time) - 1) if count and time < end else -1 for time in tokens.time_s[is_audio].tolist()
        )
        return cls(count, tuple(grid // 2 for grid in range(grids)), audio)

    def frames(self, frames_per_grid: int = 1) -> tuple[int, ...]:
        """The pair of each video frame, for grids cut into `frames_per_grid` frames."""
        return tuple(pair for pair in self.grid for _ in range(frames_per_grid))


def temporal_merge_counts(sizes: Sequence[int], total: int) -> tuple[int, ...]:
    """`total` tokens over frames of `sizes`: reference frames whole and the rest in proportion, or only references where total is less."""
    references = [0 if frame % GROUP else size for frame, size in enumerate(sizes)]
    if total < sum(references):
        return proportional(references, total)
    others = [size if frame % GROUP else 0 for frame, size in enumerate(sizes)]
    more = proportional(others, total - sum(references))
    return tuple(reference + other for reference, other in zip(references, more, strict=True))


def proportional(sizes: Sequence[int], total: int) -> tuple[int, ...]:
    """`total` split by `sizes`: each within one of its exact share, spread evenly along the way."""
    whole = max(1, sum(sizes))
    ends = [end * total // whole for end in accumulate(sizes)]
    return tuple(end - start for start, end in zip([0, *ends], ends, strict=False))


def _at_least_one(target: float, present: int) -> int:
    return min(present, max(min(present, 1), round(target)))
