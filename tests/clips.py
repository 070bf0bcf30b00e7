"""Small real clips, made on demand: every container, codec and oddity the tests need.

Written through PyAV's encoders, from the pictures and sounds of `tests/signals.py`.

Use the `clips` fixture: `clips["speech_video"]` is a path, made once per test session. The names are the keys of `RECIPES`.
"""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from tests.signals import TONE_HZ, Frames, bursts, fit, picture, pictures, speech

# ---------------------------------------------------------------- writing


@dataclass(frozen=True)
class Track:
    """A sound track to write: samples (N,) or (N, channels) in [-1, 1] at `rate_hz`, beginning `delay_s` into the file."""

    samples: NDArray[np.float32]
    rate_hz: int = 16_000
    codec: str = "aac"
    layout: str = "mono"
    delay_s: float = 0.0


def write(
    path: Path,
    frames: Frames | None = None,
    fps: float | Fraction = 10,
    times_s: Sequence[float] | None = None,
    sound: Track | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    delay_s: float = 0.0,
) -> Path:
    """A real media file. `times_s` gives every frame its own time (variable frame rate); `delay_s` makes the picture start late."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w", options=container_options or {}) as out:
        video = audio = None
        pending = iter(frames) if frames is not None else iter(())
        first = next(pending, None)
        if first is not None:
            video = out.add_stream(codec, rate=rate, options=options or {})
            video.height, video.width, _ = first.shape
            video.pix_fmt = pix_fmt
            video.codec_context.time_base = Fraction(1, 90_000) if times_s is not None or delay_s else 1 / rate
        if sound is not None:
            audio = out.add_stream(sound.codec, rate=sound.rate_hz, layout=sound.layout)
        # Interleaved second by second, as a camera would write it: a reader meets both tracks early.
        jobs: list[tuple[float, Any, Any]] = []
        if video is not None and first is not None:
            jobs += [(t, video, p) for t, p in _video_packets(video, chain([first], pending), rate, times_s, delay_s)]
        if audio is not None and sound is not None:
            jobs += [(t, audio, p) for t, p in _audio_packets(audio, sound)]
        for _, _, packet in sorted(jobs, key=lambda job: job[0]):
            out.mux(packet)
    return path


def _video_packets(
    stream: Any, frames: Frames, rate: Fraction, times_s: Sequence[float] | None, delay_s: float
) -> Iterator[tuple[float, Any]]:
    base = stream.codec_context.time_base
    for index, array in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(array, format="rgb24")
        seconds = (times_s[index] if times_s is not None else index / rate) + Fraction(delay_s)
        frame.pts, frame.time_base = round(seconds / base), base
        for packet in stream.encode(frame):
            yield float(packet.dts * packet.time_base), packet
    for packet in stream.encode():
        yield float(packet.dts * packet.time_base), packet


def _audio_packets(stream: Any, sound: Track) -> Iterator[tuple[float, Any]]:
    samples = sound.samples if sound.samples.ndim == 2 else sound.samples[:, None]
    resampler = av.AudioResampler(stream.codec_context.format, sound.layout, sound.rate_hz, stream.codec_context.frame_size or 1024)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T.astype(np.float32)), format="fltp", layout=sound.layout)
    frame.sample_rate, frame.time_base = sound.rate_hz, Fraction(1, sound.rate_hz)
    frame.pts = round(sound.delay_s * sound.rate_hz)
    for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
        for packet in stream.encode(piece):
            yield float(packet.dts * packet.time_base), packet


def rotate(path: Path, degrees: int) -> Path:
    """Writes a display rotation into an mp4's track header, as a phone held sideways does (ISO 14496-12, tkhd matrix)."""
    one, data = 1 << 16, bytearray(path.read_bytes())
    a, b, c, d = {90: (0, one, -one, 0), 180: (-one, 0, 0, -one), 270: (0, -one, one, 0)}[degrees]
    matrix_at = data.index(b"tkhd") + 44
    data[matrix_at : matrix_at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def cut(source: Path, target: Path, share: float) -> Path:
    """The first `share` of a file's bytes: a download that stopped."""
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


def padded_mp4(clip: Path, seed: int, size: int = 400_000) -> bytes:
    """An mp4 of a certain size: a clip, and a box of noise that players pass over."""
    noise = random.Random(seed).randbytes(size)
    return clip.read_bytes() + struct.pack(">I4s", len(noise) + 8, b"free") + noise


def _jpeg(height: int = 64, width: int = 64) -> bytes:
    codec = av.CodecContext.create("mjpeg", "w")
    codec.height, codec.width, codec.pix_fmt, codec.time_base = height, width, "yuvj420p", Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(picture(1, height, width), format="rgb24").reformat(format="yuvj420p")
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])


def _with_cover(mp3: Path) -> Path:
    """Prepends an ID3v2.3 tag with a front cover (APIC), as music files carry it."""
    body = b"\0image/jpeg\0\x03\0" + _jpeg()
    tag = b"APIC" + struct.pack(">I", len(body)) + b"\0\0" + body
    size = bytes(len(tag) >> shift & 0x7F for shift in (21, 14, 7, 0))
    data = mp3.read_bytes()
    if data[:3] == b"ID3":
        data = data[10 + sum(byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True)) :]
    mp3.write_bytes(b"ID3\x03\0\0" + size + tag + data)
    return mp3


# ---------------------------------------------------------------- the clips

SENTENCE = "The quick brown fox jumps over the lazy dog"


def speech_video(folder: Path, seconds: float = 6.0, name: str = "speech_video.mp4") -> Path:
    """320x180, 10 fps, H.264 with B-frames, and a spoken sentence in AAC, 44.1 kHz stereo."""
    mono = fit(speech(SENTENCE, 44_100), seconds, 44_100)
    track = Track(np.stack([mono, mono], axis=1), 44_100, layout="stereo")
    return write(folder / name, pictures(round(seconds * 10)), sound=track, options={"g": "30"})


def silent_video(
    folder: Path,
    seconds: float = 4.0,
    fps: float | Fraction = 10,
    height: int = 180,
    width: int = 320,
    name: str = "silent_video.mp4",
) -> Path:
    return write(folder / name, pictures(round(seconds * fps), height, width), fps=fps)


def tone_video(folder: Path, seconds: float = 6.0, sound_s: float | None = None, name: str = "tone_video.mp4", **kwargs: Any) -> Path:
    """Pictures, and bursts at 1, 2, 3 ... seconds of the sound track."""
    sound_s = seconds if sound_s is None else sound_s
    delay = kwargs.pop("sound_delay_s", 0.0)
    codec = kwargs.pop("sound_codec", "aac")
    rate = 48_000 if codec == "libopus" else 16_000
    track = Track(bursts(sound_s, range(1, int(sound_s) + 1), rate), rate, codec, delay_s=delay)
    fps = kwargs.pop("fps", 10)
    size = kwargs.pop("size", (180, 320))
    return write(folder / name, pictures(round(seconds * fps), *size), fps=fps, sound=track, **kwargs)


def speech_file(folder: Path, suffix: str, rate_hz: int = 16_000) -> Path:
    """A spoken sentence alone: wav, flac, mp3, m4a or ogg."""
    path, sound = folder / f"speech.{suffix}", speech(SENTENCE, rate_hz)
    if suffix in ("wav", "flac"):
        soundfile.write(path, sound, rate_hz)
        return path
    codec = {"mp3": "libmp3lame", "m4a": "aac", "ogg": "libopus"}[suffix]
    rate = 48_000 if suffix == "ogg" else rate_hz
    return write(path, sound=Track(speech(SENTENCE, rate), rate, codec))


def vfr(folder: Path) -> Path:
    """Variable frame rate: 20 fps in the first second, one frame a second for four, then 10 fps for a second. See `VFR_TIMES_S`."""
    return write(folder / "vfr.mp4", pictures(len(VFR_TIMES_S)), times_s=VFR_TIMES_S)


VFR_TIMES_S = [*(i / 20 for i in range(20)), 1.0, 2.0, 3.0, 4.0, *(5 + i / 10 for i in range(10))]


def broken_tail(folder: Path) -> Path:
    """Matroska whose last third is noise: decodes, then stops."""
    path = tone_video(folder, name="broken_tail.mkv")
    data = bytearray(path.read_bytes())
    start = len(data) * 2 // 3
    data[start:] = np.random.default_rng(0).integers(0, 256, len(data) - start, np.uint8).tobytes()
    path.write_bytes(data)
    return path


def cut_mp4(folder: Path, faststart: bool) -> Path:
    """An mp4 cut at 60 %: readable up to there with its index in front, not at all with the index behind."""
    whole = tone_video(folder, name="whole.mp4", container_options={"movflags": "+faststart"} if faststart else {})
    return cut(whole, folder / "cut.mp4", 0.6)


def long_audio(folder: Path, seconds: float = 310.0) -> Path:
    """More than the 300 s at which Whisper's feature extractor cuts; a burst in the last second."""
    path = folder / "long_audio.flac"
    soundfile.write(path, bursts(seconds, [1.0, seconds - 1.0]), 16_000)
    return path


def stereo_wav(folder: Path) -> Path:
    """44.1 kHz, the burst in the left channel only."""
    path, left = folder / "stereo.wav", bursts(2.0, [1.0], 44_100)
    soundfile.write(path, np.stack([left, np.zeros_like(left)], axis=1), 44_100)
    return path


def gif(folder: Path, count: int = 20) -> Path:
    return write(folder / f"animated_{count}.gif", pictures(count, 96, 128), codec="gif", pix_fmt="rgb8")


def surround(folder: Path) -> Path:
    """5.1 sound at 48 kHz with bursts in every channel."""
    mono = bursts(3.0, [1.0, 2.0], 48_000)
    track = Track(np.stack([mono] * 6, axis=1), 48_000, layout="5.1")
    return write(folder / "surround.mp4", pictures(30), sound=track)


def many_channels(folder: Path, codec: str, channels: int) -> Path:
    """One second of a tone of amplitude 0.5, the same in each of many channels (by ffmpeg: PyAV cannot make such frames)."""
    path = folder / f"many.{'m4a' if codec == 'aac' else 'ogg'}"
    tone = "|".join([f"0.5*sin({TONE_HZ}*2*PI*t)"] * channels)
    mapping = ["-mapping_family", "255"] if codec == "libopus" else []
    sound = ["-f", "lavfi", "-i", f"aevalsrc=exprs={tone}:s=48000:d=1"]
    subprocess.run(["ffmpeg", "-v", "error", "-y", *sound, "-c:a", codec, *mapping, "-b:a", "1M", str(path)], check=True)
    return path


def _text(folder: Path) -> Path:
    path = folder / "text.mp4"
    path.write_text("This is not a video.\n" * 20)
    return path


def _empty(folder: Path) -> Path:
    path = folder / "empty.mp4"
    path.touch()
    return path


_29_97 = Fraction(30_000, 1001)
_VP9 = {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}}

RECIPES: dict[str, Callable[[Path], Path]] = {
    "speech_video": speech_video,
    "tone_video": tone_video,
    "silent_video": silent_video,
    "landscape": lambda d: tone_video(d, 4.0, size=(360, 640), name="landscape.mp4"),
    "portrait": lambda d: tone_video(d, 4.0, size=(320, 180), name="portrait.mp4"),
    "square": lambda d: silent_video(d, height=240, width=240, name="square.mp4"),
    "tiny": lambda d: silent_video(d, height=48, width=64, name="tiny.mp4"),
    "wide": lambda d: silent_video(d, height=32, width=640, name="wide.mp4"),
    "odd_duration": lambda d: tone_video(d, 5.3, name="odd_duration.mp4"),
    "ntsc": lambda d: tone_video(d, 4.0, fps=_29_97, name="ntsc.mp4"),
    "seven_fps": lambda d: tone_video(d, 5.0, fps=7, name="seven_fps.mp4"),
    "half_fps": lambda d: silent_video(d, 12.0, fps=Fraction(1, 2), name="half_fps.mp4"),
    "vfr": vfr,
    "rotated": lambda d: rotate(tone_video(d, 3.0, name="rotated.mp4"), 90),
    "rotated_180": lambda d: rotate(silent_video(d, 2.0, name="rotated_180.mp4"), 180),
    "rotated_270": lambda d: rotate(silent_video(d, 2.0, name="rotated_270.mp4"), 270),
    "one_frame": lambda d: silent_video(d, 0.1, name="one_frame.mp4"),
    "short": lambda d: tone_video(d, 0.3, name="short.mp4"),
    "sound_longer": lambda d: tone_video(d, 3.0, sound_s=6.5, name="sound_longer.mp4"),
    "sound_shorter": lambda d: tone_video(d, 6.0, sound_s=2.5, name="sound_shorter.mp4"),
    "delayed_audio": lambda d: tone_video(d, 5.0, sound_s=3.5, sound_delay_s=1.5, name="delayed_audio.mkv"),
    "delayed_video": lambda d: tone_video(d, 3.0, sound_s=5.0, delay_s=1.5, name="delayed_video.mkv"),
    "surround": surround,
    "gif": gif,
    "one_image_gif": lambda d: gif(d, 1),
    "webm": lambda d: tone_video(d, 4.0, name="vp9_opus.webm", sound_codec="libopus", **_VP9),
    "mkv": lambda d: tone_video(d, 4.0, name="clip.mkv"),
    "mov": lambda d: tone_video(d, 4.0, name="clip.mov"),
    "avi": lambda d: tone_video(d, 4.0, name="clip.avi", codec="mpeg4", sound_codec="libmp3lame"),
    "hevc": lambda d: tone_video(d, 4.0, name="hevc.mp4", codec="libx265", options={"x265-params": "log-level=none"}),
    "wav": lambda d: speech_file(d, "wav"),
    "wav_22k": lambda d: speech_file(d, "wav", 22_050),
    "stereo_wav": stereo_wav,
    "flac": lambda d: speech_file(d, "flac"),
    "mp3": lambda d: speech_file(d, "mp3"),
    "m4a": lambda d: speech_file(d, "m4a"),
    "ogg": lambda d: speech_file(d, "ogg"),
    "cover_mp3": lambda d: _with_cover(write(d / "cover.mp3", sound=Track(bursts(3.0, [1.0, 2.0]), codec="libmp3lame"))),
    "long_audio": long_audio,
    "broken_tail": broken_tail,
    "cut_faststart": lambda d: cut_mp4(d, faststart=True),
    "cut_no_index": lambda d: cut_mp4(d, faststart=False),
    "text_mp4": _text,
    "empty": _empty,
}


class Clips:
    """The recipes' files, each made when first asked for and kept for the test session."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Path] = {}

    def __getitem__(self, name: str) -> Path:
        if name not in self._made:
            place = self._folder / name
            place.mkdir()
            self._made[name] = RECIPES[name](place)
        return self._made[name]
