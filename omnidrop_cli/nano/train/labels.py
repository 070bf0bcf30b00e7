"""What every audio and video token of a clip stands for, from the clip's timeline.

Token positions come from `prompt/layout.py`. The encoders are trained towards these labels; the decoder's first training reads them
directly, before encoders exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from omnidrop_cli.nano.world.scenario import CELL_PX, Scenario, Show
from omnidrop_cli.nano.world.vocabulary import BEEP, NOISE, NOTHING, SILENCE, media_classes
from omnidrop_cli.outputs import Modality
from omnidrop_cli.prompt.layout import MediaBlock, lay_out
from omnidrop_cli.prompt.spec import PromptSpec

Columns = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]

AUDIO_PER_SECOND = 25
MAX_CLASSES = 6
"""Classes one token may carry: an item of two words and its place, or two such items and part of a place."""

PLACE_WEIGHT = 0.5
"""How much of a token says where its thing is, against what it is."""

MIDDLE = 0.14
"""A centre this close to the middle of the frame is neither left nor right, neither top nor bottom (as in `questions.py`)."""

LEAST_SHARE = 0.2
"""A cell that holds less than this share of a thing (or of itself) is not labelled with it."""


@dataclass(frozen=True, slots=True, eq=False)
class MediaLabels:
    """Per audio and video token, in prompt order. `event` numbers shows, then words, then beeps; -1 for none.

    `block` is the clip's place in a prompt, markers included; `marks` how many markers open (and close) it.
    `audio` bool (n,); `classes` int64 (n, MAX_CLASSES) into `media_classes()`, `weights` float32 likewise.
    """

    block: MediaBlock
    marks: int
    audio: NDArray[np.bool_]
    classes: NDArray[np.int64]
    weights: NDArray[np.float32]
    event: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.audio)

    @property
    def positions(self) -> NDArray[np.int64]:
        """int64 (3, n), counted from the first opening marker."""
        return self.block.positions[:, self.marks : -self.marks]


@cache
def class_index() -> dict[str, int]:
    return {name: index for index, name in enumerate(media_classes())}


def label(timeline: Scenario, spec: PromptSpec) -> MediaLabels:
    """Labels of the whole clip, where `prompt/` puts its tokens."""
    rows, cols = timeline.cells
    merge = spec.spatial_merge_size
    grid = (timeline.grids, rows * merge, cols * merge) if timeline.has_video else None
    block = _place(spec, grid, round(timeline.duration_s * AUDIO_PER_SECOND) if timeline.has_audio else 0)
    marks = timeline.has_video + timeline.has_audio
    audio = block.tokens.modality[marks:-marks] == Modality.AUDIO
    classes, weights = np.zeros((len(audio), MAX_CLASSES), np.int64), np.zeros((len(audio), MAX_CLASSES), np.float32)
    event = np.full(len(audio), -1)
    if timeline.has_video:
        classes[~audio], weights[~audio], event[~audio] = _video(timeline)
    if timeline.has_audio:
        classes[audio], weights[audio], event[audio] = _audio(timeline)
    return MediaLabels(block, marks, audio, classes, weights, event)


@lru_cache(maxsize=512)
def _place(spec: PromptSpec, grid: tuple[int, int, int] | None, audio_tokens: int) -> MediaBlock:
    return lay_out(spec, grid_thw=grid, seconds_per_grid=1.0, audio_tokens=audio_tokens)


def _video(timeline: Scenario) -> Columns:
    """Classes, weights, events of the video tokens in raster order."""
    rows, cols = timeline.cells
    grids, count = timeline.grids, timeline.grids * rows * cols
    classes, weights, event = np.zeros((count, MAX_CLASSES), np.int64), np.zeros((count, MAX_CLASSES), np.float32), np.full(count, -1)
    used = np.zeros(count, np.int64)
    index = class_index()
    cell_area = CELL_PX * CELL_PX
    for number, show in enumerate(timeline.shows):
        side = show.size * CELL_PX
        for grid in range(int(show.start_s), min(grids, int(np.ceil(show.end_s)))):
            share = np.zeros((rows, cols))
            for frame_s in (grid, grid + 0.5):
                if show.start_s <= frame_s < show.end_s:
                    x, y = show.centre(frame_s)
                    x, y = x * cols * CELL_PX, y * rows * CELL_PX
                    wide = np.clip(np.minimum(x + side / 2, _edges(cols)[1:]) - np.maximum(x - side / 2, _edges(cols)[:-1]), 0, None)
                    high = np.clip(np.minimum(y + side / 2, _edges(rows)[1:]) - np.maximum(y - side / 2, _edges(rows)[:-1]), 0, None)
                    share += np.outer(high, wide) / min(cell_area, side * side) / 2
            said = [(name, 1.0) for name in show.item.classes] + [(name, PLACE_WEIGHT) for name in _places(show, grid + 0.5)]
            for row, col in zip(*np.nonzero(share > LEAST_SHARE), strict=True):
                token = (grid * rows + row) * cols + col
                for name, weight in said[: MAX_CLASSES - used[token]]:
                    classes[token, used[token]], weights[token, used[token]] = index[name], weight * share[row, col]
                    used[token] += 1
                event[token] = number
    bare = used == 0
    classes[bare, 0], weights[bare, 0] = index[NOTHING], 1.0
    return classes, weights, event


def _places(show: Show, time_s: float) -> list[str]:
    """Names of where the whole thing is, not of which cell this is: that is what a question asks for."""
    x, y = show.centre(time_s)
    side = [] if abs(x - 0.5) <= MIDDLE else ["left" if x < 0.5 else "right"]
    return side + ([] if abs(y - 0.5) <= MIDDLE else ["top" if y < 0.5 else "bottom"])


@cache
def _edges(cells: int) -> NDArray[np.float64]:
    return np.linspace(0.0, cells * CELL_PX, cells + 1)


def _audio(timeline: Scenario) -> Columns:
    """Classes, weights, events of the audio tokens."""
    count = round(timeline.duration_s * AUDIO_PER_SECOND)
    index = class_index()
    classes, weights = np.zeros((count, MAX_CLASSES), np.int64), np.zeros((count, MAX_CLASSES), np.float32)
    classes[:, 0], weights[:, 0] = index[NOISE if timeline.noise else SILENCE], 1.0
    event = np.full(count, -1)
    first = len(timeline.shows)
    sounds = [(w.word, w.start_s, w.end_s) for w in timeline.words] + [(BEEP, b.start_s, b.end_s) for b in timeline.beeps]
    for number, (name, start, end) in enumerate(sounds):
        begin = min(count - 1, round(start * AUDIO_PER_SECOND))
        stop = min(count, max(begin + 1, round(end * AUDIO_PER_SECOND)))
        classes[begin:stop, 0], event[begin:stop] = index[name], first + number
    return classes, weights, event
