"""Which frames, and how large: arithmetic only.

Knows: the rules by which Qwen2.5-Omni was trained and is scored. Does not know: files.

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
from omnidrop_cli.outputs import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from omnidrop_cli.config import MediaConfig
    from omnidrop_cli.outputs import SourceFacts

FRAME_FACTOR = 2
"""Frames are read in pairs (`FRAME_FACTOR`, and the vision tower's temporal patch)."""

SIZE_FACTOR = 28
"""A token is 28 x 28 pixels: patches of 14, merged two by two."""

FRAME_PIXELS = (128 * SIZE_FACTOR**2, 144 * SIZE_FACTOR**2)
"""Least and most pixels of a frame where neither the user nor the model says: the papers' layout (144 tokens for 16:9)."""

MAX_RATIO = 200
VIDEO_MAX_PIXELS = 768 * SIZE_FACTOR**2
"""Per frame (`VIDEO_MAX_TOKEN_NUM`; the processor's `longest_edge`)."""

VIDEO_TOTAL_PIXELS = int(128_000 * SIZE_FACTOR**2 * 0.9)
"""Per clip, counted once per pair of frames (`MODEL_SEQ_LEN`)."""

_HOP = 160
"""Samples per mel frame (Whisper feature extractor)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a clip will cost, known before it is decoded. `frame_size` is (H, W) in pixels, None without pictures."""

    frames: int
    frame_size: tuple[int, int] | None
    fps: float | None
    audio_s: float
    video_tokens: int
    audio_tokens: int


def frame_count(duration_s: float, source_fps: float, options: MediaConfig) -> int:
    """How many frames stand for `duration_s` seconds: even, at least 2, by Qwen's rule (`smart_nframes`).

    Where a track holds fewer frames than that (a still, a slide show) there are as many as it has, and 2 for a single one.
    """
    available = max(1, round(duration_s * source_fps))
    low = _multiple(math.ceil, options.min_frames, FRAME_FACTOR)
    high = _multiple(math.floor, min(options.max_frames, available), FRAME_FACTOR)
    wanted = min(max(available / source_fps * options.fps, low), high, available)
    return max(FRAME_FACTOR, _multiple(math.floor, wanted + 1e-6, FRAME_FACTOR))  # 3.9999999 frames are four


def sample_times(first_s: float, last_s: float, count: int) -> NDArray[np.float64]:
    """(count,) moments from the first frame's to the last frame's, evenly spaced, both included (`torch.linspace` in qwen-omni-utils)."""
    return np.linspace(first_s, last_s, count)


def frames_on_display(frame_times_s: NDArray[np.float64], moments_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """For every moment, the index of the frame to show for it. `frame_times_s` ascending, at least one.

    The frame on display, or the one after it where that begins within half a usual frame: at a constant rate this is the nearest
    frame, as Qwen picks it; with a variable rate a picture that stays for seconds stands for all of them.
    """
    if len(frame_times_s) < 2:
        return np.zeros(len(moments_s), np.int64)
    half_frame_s = float(np.median(np.diff(frame_times_s))) / 2
    latest = np.searchsorted(frame_times_s, moments_s + half_frame_s, side="right") - 1
    return np.clip(latest, 0, len(frame_times_s) - 1)


def frame_size(height: int, width: int, frames: int, options: MediaConfig) -> tuple[int, int]:
    """(H, W) that enter the vision tower for upright pictures of `height` x `width`: multiples of 28 within the pixel bounds.

    Two steps, as on the stock road: `fetch_video` (which may end below the lower bound), then the video processor (which
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


def video_tokens(frames: int, size: tuple[int, int]) -> int:
    return frames // FRAME_FACTOR * (size[0] // SIZE_FACTOR) * (size[1] // SIZE_FACTOR)


def audio_tokens(samples: int) -> int:
    """Tokens of `samples` at 16 kHz: mel frames, halved by a convolution, halved by a pooling (`_get_feat_extract_output_lengths`)."""
    mel = samples // _HOP
    return max(0, ((mel - 1) // 2 + 1 - 2) // 2 + 1)


def estimate(facts: SourceFacts, options: MediaConfig) -> Estimate:
    """Frames, size and tokens of a clip from its facts. Exact where the container tells the truth about its tracks."""
    frames, size, fps, samples = 0, None, None, 0
    end = facts.duration_s if options.end_s is None else min(options.end_s, facts.duration_s)
    if options.use_video and (video := facts.video) is not None:
        seconds = max(0.0, min(end, video.duration_s or end) - options.start_s)
        frames = frame_count(seconds, video.fps, options)
        fps = frames / seconds if seconds else None
        upright = (video.height, video.width) if video.rotation_deg % 180 == 0 else (video.width, video.height)
        size = frame_size(*upright, frames, options)
    if options.use_audio and (audio := facts.audio) is not None:
        samples = int(max(0.0, min(end, audio.duration_s or end) - options.start_s) * SAMPLE_RATE_HZ)
    return Estimate(frames, size, fps, samples / SAMPLE_RATE_HZ, video_tokens(frames, size) if size else 0, audio_tokens(samples))
