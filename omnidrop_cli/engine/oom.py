"""How much of a prompt is computed at once, and what to lower, in which order, when the device has too little memory.

Knows: sizes that trade memory for nothing but a little speed, and media options that trade it for detail. Does not know: towers,
decoders, how an error is told (`session.py`).

The order, each step repeated until the memory suffices or the step has no more to give:
1. the tower that ran out passes the clip in half as long pieces; a prefill that ran out takes a quarter of the rows at a time: same
   answer, a little slower;
2. half the frames, down to one a second;
3. half the pixels of a frame, down to `MIN_PIXELS`;
4. half the frames again, down to `MediaConfig.min_frames`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import torch

from omnidrop_cli.errors import OutOfMemory

if TYPE_CHECKING:
    from omnidrop_cli.config import MediaConfig
    from omnidrop_cli.outputs import Clip

T = TypeVar("T")

MIN_PATCHES, MIN_WINDOWS, MIN_ROWS = 1_024, 8, 256

MIN_PIXELS = 16 * 28 * 28
"""Sixteen tokens a frame. Less tells hardly more than that something was there."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Most patches in one pass of the vision tower, two-second windows in one of the audio tower, rows in one pass of an MLP or norm.

    The defaults are where a GPU is busy: 28 grids of 252x448, five minutes of sound, 0.5 GB of a 7B MLP's activations in bfloat16.
    """

    patches: int = 16_384
    windows: int = 150
    rows: int = 4_096

    def smaller_pieces(self) -> Limits | None:
        """Half of what a tower takes at once; None where that is the least already."""
        if self.patches <= MIN_PATCHES and self.windows <= MIN_WINDOWS:
            return None
        return replace(self, patches=max(MIN_PATCHES, self.patches // 2), windows=max(MIN_WINDOWS, self.windows // 2))

    def fewer_rows(self) -> Limits | None:
        """A quarter of what a decoder layer takes at once; None where that is the least already."""
        return None if self.rows <= MIN_ROWS else replace(self, rows=max(MIN_ROWS, self.rows // 4))


def less_detail(options: MediaConfig, clip: Clip) -> MediaConfig | None:
    """Options under which `clip` makes about half the video tokens; None where it has none to spare."""
    if clip.frames is None or clip.fps is None:
        return None
    count, _, height, width = clip.frames.shape
    # Below what was asked for too: sides of a long narrow picture cannot always follow, and the same must not be asked twice.
    pixels, fewer = min(height * width, options.max_pixels or height * width) // 2, count // 4 * 2
    if fewer >= options.min_frames and clip.fps > 1.5:
        return replace(options, max_frames=fewer)
    if pixels >= MIN_PIXELS:
        return replace(options, min_pixels=pixels // 2, max_pixels=pixels)
    if fewer >= max(2, options.min_frames):
        return replace(options, max_frames=fewer)
    return None


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` is a failed allocation. On the CPU torch tells it as a plain `RuntimeError`."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def until_it_fits(attempt: Callable[[], T], give_way: Callable[[], str | None], tell: Callable[[str], None]) -> T:
    """`attempt` again and again, as long as it raises `OutOfMemory` and `give_way` finds something to lower, which it puts in words.

    The next attempt begins when everything that the failed one held is gone, so `give_way` only settles what it will do.
    """
    while True:
        try:
            return attempt()
        except OutOfMemory:
            given = give_way()
            if given is None:
                raise
        gc.collect()  # frames of the failed attempt may hang in cycles, and their tensors with them
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        tell(given)
