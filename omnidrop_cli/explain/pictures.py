"""A decoded clip as small pictures: JPEG thumbnails of its frames, its spectrogram as PNG, its waveform as peaks."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from omnidrop_cli.explain.record import Film, SoundImage
from omnidrop_cli.outputs import FRAMES_PER_GRID, SAMPLE_RATE_HZ, Clip

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PIXELS_IN_ALL = 2_400_000
"""Pixels of all thumbnails together: at about 0.6 bits each, some 200 kB of JPEG per million."""

WIDTHS = (112, 320)
"""Narrowest and widest thumbnail."""

QUALITY = 6
"""Quantiser of the JPEG encoder, 2 (best) to 31."""

MEL_WIDTH, MEL_HEIGHT = 2000, 64
PEAKS = 2000


def film_of(clip: Clip) -> Film | None:
    """Thumbnails of the first frame of each pair, sized so that a long clip stays small; None without video."""
    if clip.frames is None or clip.frame_times_s is None:
        return None
    frames, times = clip.frames[::FRAMES_PER_GRID], clip.frame_times_s[::FRAMES_PER_GRID]
    height, width = frames.shape[2:]
    wanted = (PIXELS_IN_ALL / len(frames) * width / height) ** 0.5
    scaled = min(width, max(WIDTHS[0], min(WIDTHS[1], round(wanted))))
    size = _even(scaled), _even(round(scaled * height / width))
    jpegs = tuple(jpeg(frame.transpose(1, 2, 0), size) for frame in frames)
    return Film(size, tuple(round(float(time) - clip.start_s, 3) for time in times), jpegs)


def sound_of(clip: Clip) -> SoundImage | None:
    """Spectrogram and peaks; None without audio."""
    if clip.waveform is None or len(clip.waveform) < SAMPLE_RATE_HZ // 100:
        return None
    from omnidrop_cli.prompt.mel import log_mel

    mel = log_mel(clip.waveform)
    size = min(MEL_WIDTH, mel.shape[1]), MEL_HEIGHT
    return SoundImage(len(clip.waveform) / SAMPLE_RATE_HZ, _png(_grey(mel, size)), peaks_of(clip.waveform))


def jpeg(pixels: NDArray[np.uint8], size: tuple[int, int]) -> bytes:
    """(H, W, 3) RGB scaled to `size` (width, height), as JPEG."""
    import av
    import numpy as np

    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    frame = frame.reformat(*size, format="yuvj420p", interpolation="AREA")
    return _encode(frame, "mjpeg", qmin=QUALITY, qmax=QUALITY)


def _png(grey: NDArray[np.uint8]) -> bytes:
    import av

    return _encode(av.VideoFrame.from_ndarray(grey, format="gray"), "png")


def _encode(frame: object, codec: str, **settings: int) -> bytes:
    """One picture through one of PyAV's still-image encoders."""
    import av

    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = frame.width, frame.height, frame.format.name  # type: ignore[attr-defined]  # av has no types here
    context.time_base = Fraction(1, 1)
    for name, value in settings.items():
        setattr(context, name, value)
    frame.pts = 0  # type: ignore[attr-defined]
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def _grey(mel: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(mels, M) as (height, width) uint8, the highest mel on top; columns are means, so that nothing is skipped."""
    import numpy as np

    edges = np.linspace(0, mel.shape[1], size[0] + 1).astype(int)
    columns = np.add.reduceat(mel, edges[:-1], axis=1) / np.diff(edges)
    rows = columns.reshape(size[1], -1, size[0]).mean(axis=1)[::-1]
    low, high = float(rows.min()), float(rows.max())
    scaled: NDArray[np.uint8] = ((rows - low) / max(high - low, 1e-6) * 255).round().astype(np.uint8)
    return np.ascontiguousarray(scaled)


def peaks_of(waveform: NDArray[np.float32], bins: int = PEAKS) -> NDArray[np.int8]:
    """(bins, 2) int8: the lowest and the highest sample of each of equal parts, full scale 127."""
    import numpy as np

    edges = np.linspace(0, len(waveform), min(bins, len(waveform)) + 1).astype(int)[:-1]
    pair = np.stack([np.minimum.reduceat(waveform, edges), np.maximum.reduceat(waveform, edges)], axis=1)
    found: NDArray[np.int8] = (pair.clip(-1, 1) * 127).round().astype(np.int8)
    return found


def _even(size: int) -> int:
    return max(2, size // 2 * 2)
