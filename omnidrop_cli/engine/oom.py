"""How much of a prompt is computed at once, and what to lower, in which order, when the device has too little memory.

The order, each step repeated until the memory suffices or the step has no more to give:
1. encoders that ran out take the clip in half as long pieces; where a prefill ran out, the encoders leave the GPU while the decoder runs
   (2.6 GB of 7B), then a quarter of the rows is taken at a time: same answer, a little slower;
2. half the frames of the largest clip, down to one a second;
3. half the pixels of a frame, down to `MIN_PIXELS`;
4. half the frames again, down to `MediaConfig.min_frames`.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from omnidrop_cli.config import TOKEN_PIXELS

if TYPE_CHECKING:
    from omnidrop_cli.config import MediaConfig
    from omnidrop_cli.outputs import Clip
    from omnidrop_cli.tokens import Counts

MIN_PATCHES, MIN_WINDOWS, MIN_ROWS = 1_024, 8, 256

MIN_PIXELS = 16 * 28 * 28
"""Sixteen tokens a frame. Less tells hardly more than that something was there."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Most patches in one pass of the vision encoder, two-second windows in one of the audio encoder, rows in one pass of an MLP.

    With `encoders_on_host` the encoders are in main memory while the decoder runs, as they are on a CPU in any case. The other defaults
    are where a GPU is busy: 28 grids of 252x448, five minutes of audio, 0.5 GB of a 7B MLP's activations in bfloat16.
    """

    patches: int = 16_384
    windows: int = 150
    rows: int = 4_096
    encoders_on_host: bool = True

    @classmethod
    def of(cls, device: torch.device) -> Limits:
        """The limits to begin with."""
        return cls(encoders_on_host=device.type == "cpu")

    def smaller_pieces(self) -> Limits | None:
        """Half of what an encoder takes at once; None where that is the least already."""
        if self.patches <= MIN_PATCHES and self.windows <= MIN_WINDOWS:
            return None
        return replace(self, patches=max(MIN_PATCHES, self.patches // 2), windows=max(MIN_WINDOWS, self.windows // 2))

    def fewer_rows(self) -> Limits | None:
        """A quarter of what a decoder layer takes at once; None where that is the least already."""
        return None if self.rows <= MIN_ROWS else replace(self, rows=max(MIN_ROWS, self.rows // 4))


def less_detail(options: MediaConfig, clips: Sequence[Clip]) -> MediaConfig | None:
    """Options under which the largest of `clips` that has video tokens to spare makes about half of them; None where none has.

    Options hold for all clips, so smaller ones keep theirs until they are the largest.
    """
    largest_first = sorted(clips, key=lambda clip: 0 if clip.frames is None else clip.frames.size, reverse=True)
    return next((fewer for clip in largest_first if (fewer := _halved(options, clip)) is not None), None)


def _halved(options: MediaConfig, clip: Clip) -> MediaConfig | None:
    if clip.frames is None or clip.fps is None:
        return None
    count, _, height, width = clip.frames.shape
    # Below what was asked for too: sides of a long narrow picture cannot always follow, and the same must not be asked twice.
    pixels, fewer = min(height * width, options.max_pixels or height * width) // 2, count // 4 * 2
    if fewer >= options.min_frames and clip.fps > 1.5:
        return replace(options, max_frames=fewer)
    if pixels >= max(MIN_PIXELS, TOKEN_PIXELS):
        return replace(options, min_pixels=max(TOKEN_PIXELS, pixels // 2), max_pixels=pixels)
    if fewer >= max(2, options.min_frames):
        return replace(options, max_frames=fewer)
    return None


FAILED_ALLOCATIONS = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "out of memory")
"""Texts of failed allocations that torch raises as plain `RuntimeError`: on the CPU, by cuBLAS and cuDNN, and as `AcceleratorError`."""


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` is a failed allocation."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in FAILED_ALLOCATIONS)


@dataclass(frozen=True, slots=True)
class Step:
    """What to lower next, and how to say so."""

    limits: Limits
    media_options: MediaConfig
    message: str


def next_step(stage: str, limits: Limits, media_options: MediaConfig, clips: Sequence[Clip]) -> Step | None:
    """What to lower after `stage` ("encode" or "prefill") ran out of memory; None where nothing is left.

    Raises nothing; the caller tries again when everything that the failed attempt held is gone (`free_memory`).
    """
    if stage == "encode" and (lower := limits.smaller_pieces()):
        return Step(lower, media_options, "the memory does not suffice: the clip passes the encoders in smaller pieces")
    if stage == "prefill" and not limits.encoders_on_host:
        waiting = replace(limits, encoders_on_host=True)
        return Step(waiting, media_options, "the memory does not suffice: the encoders leave the GPU while the decoder runs")
    if stage == "prefill" and (lower := limits.fewer_rows()):
        return Step(lower, media_options, f"the memory does not suffice: the decoder takes {lower.rows} tokens at a time")
    fewer = less_detail(media_options, clips)
    if fewer is None:
        return None
    size = f" of at most {fewer.max_pixels} pixels" if fewer.max_pixels else ""
    return Step(limits, fewer, f"the memory does not suffice: the clip is read again with at most {fewer.max_frames} frames{size}")


def advice(counts: Counts, stage: str) -> str:
    """What a user may do about a prompt of `counts` for which the memory did not suffice in `stage` ("encode", "prefill", "generate").

    Pruning comes after the encoders, and frames are no reason where most of the prompt is audio.
    """
    shorter = "ask about a part with `start_s` and `end_s`"
    keep = [] if stage == "encode" else ["`keep`"]
    if counts.audio > counts.video:
        return f"most of it is audio: {' or '.join([shorter, *(f'lower {name}' for name in keep)])}"
    return f"lower {', '.join([*keep, '`max_frames`'])} or `max_pixels`, or {shorter}"


def free_memory() -> None:
    """Return memory of a failed attempt to the device. Its frames may hang in reference cycles, and their tensors with them."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
