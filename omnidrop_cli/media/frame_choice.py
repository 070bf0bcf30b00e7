"""Chooses which frames stand for a clip, and their size, by the rules that Qwen2.5-Omni was trained with: arithmetic only.

Sources: qwen-omni-utils 0.0.9, `v2_5/vision_process.py` (`smart_nframes`, `smart_resize`, `fetch_video`); transformers 5.23,
`models/qwen2_vl/video_processing_qwen2_vl.py` (`smart_resize`, `Qwen2VLVideoProcessor`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from omnidrop_cli.errors import MediaError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from omnidrop_cli.config import MediaConfig
    from omnidrop_cli.media.timeline import VideoTrack
    from omnidrop_cli.outputs import VideoStream

FRAME_FACTOR = 2
"""Frames are read in pairs (`FRAME_FACTOR`, and the vision encoder's temporal patch)."""

SIZE_FACTOR = 28
"""A token is 28 x 28 pixels: patches of 14, merged two by two."""

FRAME_PIXELS = (128 * SIZE_FACTOR**2, 144 * SIZE_FACTOR**2)
"""Least and most pixels of a frame where neither the user nor the model says: the papers' layout (144 tokens for 16:9)."""

MAX_RATIO = 200

_LATE_S = 0.25
"""Half the distance of two frames at 2 per second: a video that begins later than this needs filling in before it."""

VIDEO_MAX_PIXELS = 768 * SIZE_FACTOR**2
"""Per frame (`VIDEO_MAX_TOKEN_NUM`; the processor's `longest_edge`)."""

VIDEO_TOTAL_PIXELS = int(128_000 * SIZE_FACTOR**2 * 0.9)
"""Per clip, counted once per pair of frames (`MODEL_SEQ_LEN`)."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameChoice:
    """The frames that stand for a part of a clip.

    `packets` (T,) are indices into the video track, `times_s` (T,) the seconds at which they are reported, `size` is (H, W) in pixels,
    `fps` the effective rate, `end_s` the moment at which the last frame leaves.
    """

    packets: NDArray[np.int64]
    times_s: NDArray[np.float64]
    size: tuple[int, int]
    fps: float
    end_s: float
    warnings: tuple[str, ...]


def choose_frames(track: VideoTrack, video: VideoStream, options: MediaConfig) -> FrameChoice | None:
    """Chooses the frames of `options.start_s` to `options.end_s`, and their size. None if the track shows nothing then.

    Raises `MediaError` for frames too narrow for the model.
    """
    start_s, end_s = options.start_s, min(track.end_s, math.inf if options.end_s is None else options.end_s)
    inside = track.within(start_s, end_s)
    if not len(inside) or start_s >= end_s:
        return None
    times = track.times_s[inside]
    first_s = max(float(times[0]), start_s)
    seconds = max(end_s - first_s, track.frame_s)
    rate = len(times) / seconds
    if track.held:
        # Slides, a screen recording: time decides how many frames there are, not how often the picture changed.
        rate = max(rate, options.fps)
    warnings = []
    if (late_s := first_s - start_s) > _LATE_S:
        # Grid k of the prompt stands k seconds after the start: without these the frames would come too early for the audio.
        warnings.append(f"the video begins {late_s:.1f} s after the audio; its first frame stands for that time")
        first_s = start_s
        seconds = max(end_s - first_s, track.frame_s)
    count = frame_count(seconds, rate, options)
    step_s = seconds / count if track.held else track.frame_s
    moments = sample_times(first_s, max(float(times[-1]) if not track.held else first_s, end_s - step_s, first_s), count)
    chosen = frames_on_display(times, moments, track.ahead_s)
    if len(times) == 1:
        warnings.append("the video track holds a single frame")
    # A frame that stays for seconds is reported at the moment it was taken for.
    own = times[chosen]
    shown_at = np.where(np.abs(own - moments) <= 2 * track.ahead_s, own, moments)
    size = frame_size(*video.upright_size, count, options)
    return FrameChoice(inside[chosen], shown_at, size, count / seconds, end_s, tuple(warnings))


def frame_count(duration_s: float, source_fps: float, options: MediaConfig) -> int:
    """How many frames stand for `duration_s` seconds: even, at least 2, by Qwen's rule (`smart_nframes`).

    Where a track holds fewer frames than that (a still, a slide show) there are as many as it has, and 2 for a single one.
    """
    available = round(duration_s * source_fps)
    low = _multiple(math.ceil, options.min_frames, FRAME_FACTOR)
    high = _multiple(math.floor, min(options.max_frames, available), FRAME_FACTOR)
    wanted = min(max(available / source_fps * options.fps, low), high, available)
    return max(FRAME_FACTOR, _multiple(math.floor, wanted + 1e-6, FRAME_FACTOR))  # 3.9999999 frames are four


def sample_times(first_s: float, last_s: float, count: int) -> NDArray[np.float64]:
    """(count,) moments from the first frame's to the last frame's, evenly spaced, both included (`torch.linspace` in qwen-omni-utils)."""
    return np.linspace(first_s, last_s, count)


def frames_on_display(frame_times_s: NDArray[np.float64], moments_s: NDArray[np.float64], ahead_s: float) -> NDArray[np.int64]:
    """For every moment, the index of the frame to show for it. `frame_times_s` ascending, at least one.

    The frame on display, or the one after it where that begins within `ahead_s`, half a usual frame: at a constant rate this is the
    nearest frame, as Qwen picks it; with a variable rate a frame that stays for seconds stands for all of them.
    """
    return np.maximum(np.searchsorted(frame_times_s, moments_s + ahead_s, side="right") - 1, 0)


def frame_size(height: int, width: int, frames: int, options: MediaConfig) -> tuple[int, int]:
    """(H, W) that enter the vision encoder for upright frames of `height` x `width`: multiples of 28 within the pixel bounds.

    Two steps, as in the stock pipeline: `fetch_video` (which may end below the lower bound), then the video processor (which
    scales such a picture up again): 16:9 at most 128 tokens gives 252 x 448. Raises `MediaError` beyond a ratio of 200.
    """
    if not 0 < max(height, width) <= MAX_RATIO * min(height, width):
        raise MediaError(
            f"a picture of {width} x {height} pixels is too narrow for the model", f"the sides may differ by {MAX_RATIO} times at most"
        )
    least: float = options.min_pixels or FRAME_PIXELS[0]
    ceiling = max(min(VIDEO_MAX_PIXELS, VIDEO_TOTAL_PIXELS / frames * FRAME_FACTOR), int(least * 1.05))
    most = min(options.max_pixels or FRAME_PIXELS[1], ceiling)
    least = min(least, most)
    fetched = _smart_resize(height, width, least, most)
    return _smart_resize(*fetched, least, max(VIDEO_MAX_PIXELS, most))


def _smart_resize(height: int, width: int, least: float, most: float) -> tuple[int, int]:
    """The nearest multiples of 28 with a pixel count within the bounds; a side never vanishes."""
    h, w = (max(SIZE_FACTOR, _multiple(round, side, SIZE_FACTOR)) for side in (height, width))
    if h * w > most:
        beta = math.sqrt(height * width / most)
        h, w = (max(SIZE_FACTOR, _multiple(math.floor, side / beta, SIZE_FACTOR)) for side in (height, width))
    elif h * w < least:
        beta = math.sqrt(least / (height * width))
        h, w = (_multiple(math.ceil, side * beta, SIZE_FACTOR) for side in (height, width))
    return h, w


def _multiple(rounding: Callable[[float], int], value: float, factor: int) -> int:
    return rounding(value / factor) * factor
