"""The clip as a video on which patches are the darker the earlier their tokens were dropped, with an audio lane and the audio."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from omnidrop_cli.explain.depth import DepthMap, depth_map
from omnidrop_cli.explain.make import preview_fps, preview_frames
from omnidrop_cli.explain.pictures import peaks_of
from omnidrop_cli.explain.preview import encode_mp4
from omnidrop_cli.outputs import SAMPLE_RATE_HZ, Clip, Report

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DARKEST = 0.12
"""Brightness of a patch that no layer sees."""

LANE_HEIGHT = 56
LANE_WIDTH, LANE_FPS = 640, 12.5
"""Size and rate of the picture of a clip that has audio alone."""

BACK, DROPPED, KEPT, HEAD = (16, 18, 22), (88, 92, 98), (240, 166, 64), (255, 255, 255)


def overlay(report: Report, clip: Clip) -> bytes:
    """The used part of the clip as MP4.

    Args:
        report: with its kept tokens.
        clip: what the report is about; its frames are read again from the file, at up to 12.5 a second.

    Raises:
        UsageError: the report has no kept tokens.
        OmnidropError: the file is gone, or this PyAV has no H.264 encoder.
    """
    depth = depth_map(report)
    lane: _Lane | None = None

    def paint(pixels: NDArray[np.uint8], at_s: float) -> NDArray[np.uint8]:
        import numpy as np

        nonlocal lane
        parts = [darkened(pixels, depth.at(at_s))] if len(depth.patches) else []
        if clip.waveform is not None:
            lane = lane or _Lane(clip.waveform, depth, pixels.shape[1], clip.duration_s)
            parts.append(lane.at(at_s))
        return np.concatenate(parts)

    fps = preview_fps(report)
    frames = preview_frames(report, clip) if fps else _blank(clip.duration_s)
    return encode_mp4(frames, fps or LANE_FPS, clip.waveform, paint)


def darkened(pixels: NDArray[np.uint8], depth: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(H, W, 3) with each cell of `depth` (rows, columns) at a brightness from `DARKEST`, for 0, to its own, for 1."""
    import numpy as np

    height, width = pixels.shape[:2]
    row, column = np.arange(height) * depth.shape[0] // height, np.arange(width) * depth.shape[1] // width
    light = (DARKEST + (1 - DARKEST) * depth)[row][:, column]
    shaded: NDArray[np.uint8] = (pixels * light[..., None]).astype(np.uint8)
    return shaded


class _Lane:
    """The waveform of the whole clip, colored by depth, with a line where the video is."""

    def __init__(self, waveform: NDArray[np.float32], depth: DepthMap, width: int, duration_s: float) -> None:
        import numpy as np

        self._duration_s = duration_s
        self._picture = np.full((LANE_HEIGHT, width, 3), BACK, np.uint8)
        used = max(1, round(min(1.0, len(waveform) / SAMPLE_RATE_HZ / duration_s) * width))
        middle, scale = LANE_HEIGHT // 2, (LANE_HEIGHT - 6) / 254
        per_column = duration_s / width
        for x, (low, high) in enumerate(peaks_of(waveform, used).tolist()):
            top, bottom = middle - round(high * scale), middle - round(low * scale) + 1
            share = depth.audio_between(x * per_column, max((x + 1) * per_column, x * per_column + 0.04))
            self._picture[top:bottom, x] = [round(a + (b - a) * share) for a, b in zip(DROPPED, KEPT, strict=True)]

    def at(self, second: float) -> NDArray[np.uint8]:
        drawn = self._picture.copy()
        x = min(drawn.shape[1] - 1, int(second / self._duration_s * drawn.shape[1]))
        drawn[:, max(0, x - 1) : x + 1] = HEAD
        return drawn


def _blank(duration_s: float) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    import numpy as np

    for number in range(max(1, round(duration_s * LANE_FPS))):
        yield number / LANE_FPS, np.zeros((0, LANE_WIDTH, 3), np.uint8)
