"""A clip's frames and waveform as MP4 (H.264, AAC) that every browser plays."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidrop_cli.config import MediaConfig
from omnidrop_cli.errors import MediaError, OmnidropError
from omnidrop_cli.outputs import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Paint = Callable[[NDArray[np.uint8], float], NDArray[np.uint8]]
    """(H, W, 3) RGB and the second from the clip's start -> (H', W, 3) of the same size for every frame, H' and W even."""

MAX_FPS = 12.5
SLICE_S = 10.0
"""Seconds decoded at once: bounds memory to some 100 MB."""

PIXELS = 360 * 640
CRF = "28"
MAX_RATE = "260k"
"""Bits a second of video at most: a minute then takes 3 MB in a page, whatever it shows."""

AAC_BITS = 48_000
AAC_FRAME = 1024


def frames_of(path: Path, options: MediaConfig, duration_s: float, fps: float) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Seconds from the clip's start and pixels (H, W, 3) of a clip's frames, `fps` of them a second, decoded slice by slice.

    Args:
        path: the file.
        options: the part of the file that was asked about; its sampling is replaced.
        duration_s: seconds of that part.
        fps: frames per second, evenly spaced.
    """
    from omnidrop_cli.engine.pipeline import decode_file

    latest = None
    count = max(1, round(duration_s * fps))
    done = 0
    while done < count:
        part = min(round(SLICE_S * fps), count - done)
        start = options.start_s + done / fps
        window = replace(options, start_s=start, end_s=start + part / fps, fps=fps, min_frames=2, max_frames=part + 2, max_pixels=PIXELS)
        window = replace(window, min_pixels=None, use_audio=False)
        try:
            clip = decode_file(path, window)
        except MediaError:  # frames end before the audio does: the last one stays
            clip = None
        for index in range(part):
            at = (done + index) / fps
            if clip is not None and clip.frames is not None and clip.frame_times_s is not None:
                nearest = int(abs(clip.frame_times_s - (options.start_s + at)).argmin())
                latest = clip.frames[nearest].transpose(1, 2, 0)
            if latest is not None:
                yield at, latest
        done += part


def encode_mp4(
    frames: Iterator[tuple[float, NDArray[np.uint8]]], fps: float, waveform: NDArray[np.float32] | None, paint: Paint | None = None
) -> bytes:
    """An MP4 file with its index in front.

    Args:
        frames: seconds and (H, W, 3) RGB pixels of one size; H and W even.
        fps: frames per second.
        waveform: (N,) float32 at 16 kHz; None for no audio.
        paint: changes each frame before it is encoded.

    Raises:
        OmnidropError: this PyAV has no H.264 encoder, or the disk refuses.
    """
    import av

    with tempfile.TemporaryDirectory(prefix="omnidrop-") as folder:
        path = Path(folder) / "clip.mp4"  # the index can be moved to the front of a named file only
        try:
            with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
                _mux(container, frames, fps, waveform, paint)
            return path.read_bytes()
        except (av.error.FFmpegError, OSError) as error:
            raise OmnidropError(f"the video cannot be encoded: {error}", "it needs a PyAV with the H.264 and AAC encoders") from error


def _mux(
    container: Any, frames: Iterator[tuple[float, NDArray[np.uint8]]], fps: float, waveform: NDArray[np.float32] | None, paint: Paint | None
) -> None:
    """Encode both tracks side by side, so that a player finds audio next to its frames."""
    rate = Fraction(fps).limit_denominator(1000)
    painted = ((at_s, pixels if paint is None else paint(pixels, at_s)) for at_s, pixels in frames)
    first = next(painted, None)
    video = None
    if first is not None:
        settings = {"crf": CRF, "preset": "veryfast", "g": str(round(4 * fps)), "maxrate": MAX_RATE, "bufsize": MAX_RATE}
        video = container.add_stream("libx264", rate=rate, options=settings)
        video.height, video.width, video.pix_fmt = *first[1].shape[:2], "yuv420p"
    audio = None if waveform is None else container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono", bit_rate=AAC_BITS)
    sound = iter(()) if waveform is None else _audio_frames(waveform)
    encoded_s = 0.0
    for number, (at_s, pixels) in enumerate([] if first is None else chain([first], painted)):
        while encoded_s <= at_s and (block := next(sound, None)) is not None:
            container.mux(audio.encode(block))  # type: ignore[union-attr]  # there is sound, so there is its stream
            encoded_s = (block.pts + block.samples) / SAMPLE_RATE_HZ
        container.mux(video.encode(_video_frame(pixels, number, 1 / rate)))  # type: ignore[union-attr]
    for block in sound:
        container.mux(audio.encode(block))  # type: ignore[union-attr]
    for stream in filter(None, (video, audio)):
        container.mux(stream.encode(None))


def _video_frame(pixels: NDArray[np.uint8], number: int, time_base: Fraction) -> Any:
    import av
    import numpy as np

    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    frame.pts, frame.time_base = number, time_base
    return frame


def _audio_frames(waveform: NDArray[np.float32]) -> Iterator[Any]:
    import av
    import numpy as np

    for start in range(0, len(waveform), AAC_FRAME):
        samples = np.ascontiguousarray(waveform[None, start : start + AAC_FRAME], dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE_HZ, start, Fraction(1, SAMPLE_RATE_HZ)
        yield frame
