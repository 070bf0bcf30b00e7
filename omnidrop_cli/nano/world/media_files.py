"""Writes a timeline as a media file with PyAV: mp4 (H.264 and AAC), mkv, webm (VP9 and Opus) or wav."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omnidrop_cli import fileio
from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.nano.world import draw, mix
from omnidrop_cli.nano.world.scenario import CELL_PX, Scenario
from omnidrop_cli.outputs import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from omnidrop_cli.nano.world.voices import VoiceBank

FILE_FPS = 8
"""A multiple of the model's two frames a second, so that what it samples is what was drawn."""

SCALE = 3
"""Pixels of a file per pixel the model sees, each way."""

CODECS = {".mp4": ("libx264", "aac"), ".mkv": ("libx264", "libopus"), ".webm": ("libvpx-vp9", "libopus"), ".wav": (None, "pcm_s16le")}


def suffix(timeline: Scenario) -> str:
    """The file type a timeline is written as by default."""
    return ".mp4" if timeline.has_video else ".wav"


def write(timeline: Scenario, path: Path, bank: VoiceBank) -> Path:
    """Write the clip; the file appears whole or not at all. Raises `OmnidropError` for an unknown type, no PyAV codec, a full disk."""
    codecs = CODECS.get(path.suffix)
    if codecs is None or (timeline.has_video and codecs[0] is None):
        raise OmnidropError(
            f"{path}: cannot write this clip as {path.suffix or 'a file without a type'}", f"use one of {', '.join(CODECS)}"
        )
    import av

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fileio.replacing(path) as part, av.open(str(part), "w") as out:
            picture = _video_stream(out, codecs[0], timeline) if timeline.has_video else None
            speech = out.add_stream(codecs[1], rate=48_000 if codecs[1] == "libopus" else SAMPLE_RATE_HZ) if timeline.has_audio else None
            if speech is not None:
                speech.layout = "mono"
                for packet in _sound_packets(speech, mix.render(timeline, bank)):
                    out.mux(packet)
            if picture is not None:
                for packet in _video_packets(picture, timeline):
                    out.mux(packet)
    except (OSError, ValueError, av.error.FFmpegError) as error:
        raise OmnidropError(f"{path}: cannot write the clip ({error})", "check the directory, the free space and PyAV's codecs") from error
    return path


def _video_stream(out: Any, codec: str | None, timeline: Scenario) -> Any:
    stream = out.add_stream(codec, rate=FILE_FPS)
    stream.height, stream.width = (cells * CELL_PX * SCALE for cells in timeline.cells)
    stream.pix_fmt = "yuv420p"
    # x264's macroblock tree reads what it never wrote where the height is no multiple of 16: the same frames came out different each time.
    x264 = {"crf": "23", "x264-params": "mbtree=0"}
    stream.options = x264 if codec == "libx264" else {"crf": "32", "b": "0", "cpu-used": "5", "row-mt": "0"}
    stream.codec_context.thread_count = 1
    return stream


def _video_packets(stream: Any, timeline: Scenario) -> Iterator[Any]:
    import av

    for number, pixels in enumerate(draw.render(timeline, SCALE, FILE_FPS)):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)), format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, FILE_FPS)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _sound_packets(stream: Any, wave: np.ndarray[Any, np.dtype[np.float32]]) -> Iterator[Any]:
    import av

    frame = av.AudioFrame.from_ndarray((wave * 32767).astype(np.int16)[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, 0
    resampler = av.AudioResampler(stream.format or "s16", "mono", stream.rate, frame_size=stream.codec_context.frame_size or None)
    for piece in [*resampler.resample(frame), *resampler.resample(None)]:
        yield from stream.encode(piece)
    yield from stream.encode(None)
