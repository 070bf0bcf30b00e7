"""Decodes an audio track to 16 kHz mono float32 in which every sample lies where the timeline says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from omnidrop_cli.media.container import Source, audio_track, open_media, packets
from omnidrop_cli.media.packets import DECODER_ERRORS, Numbering
from omnidrop_cli.media.timeline import NO_PTS
from omnidrop_cli.outputs import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from omnidrop_cli.media.timeline import AudioTrack

    Samples = NDArray[np.float32]

_DRIFT_S = 0.05
"""Decoded samples that lie this far from where the timeline wants them are moved there; anything shorter is rounding."""

_RUN_UP_S = 0.5
"""Decoding begins this much early: mp3 and AAC frames borrow from the ones before."""

_MAX_PLANAR = 7
"""`AudioFrame.to_ndarray` counts the planes of a frame up to the first empty pointer. Behind the eighth pointer lies other memory."""

_LOUDEST = 64.0
"""Floating point samples beyond this are no sound; a filter would spread them, or overflow."""

_AUDIBLE, _CANCELLED = 0.005, 0.1
"""A peak that can be heard; and how little of it, as a share, the mean of channels may leave that do not cancel out."""


@dataclass(frozen=True, slots=True, eq=False)
class Waveform:
    """`samples` float32 (N,) in [-1, 1] at 16 kHz; `decoded` of them come from the file, `bad` source samples were no numbers.

    `cancelled_out`: the channels are opposites, so that almost nothing of them is left. `overlap_s` of the sound were dropped, since by
    their time stamps they lay on others.
    """

    samples: Samples
    decoded: int
    bad: int
    cancelled_out: bool
    overlap_s: float


def read_audio(source: Source, track: AudioTrack, start_s: float, samples: int, cancelled: Callable[[], bool] = lambda: False) -> Waveform:
    """Decodes `samples` samples from `start_s` on. Where nothing decodes there is silence.

    Stops early once `cancelled` returns True.
    """
    out = np.zeros(samples, np.float32)
    writer = _Writer(out)
    bad, alone, mixed = 0, 0.0, 0.0
    for at_s, frame in _frames(source, track, start_s, start_s + samples / SAMPLE_RATE_HZ):
        if cancelled() or writer.full:
            break
        mono, broken, peak = _mono(frame)
        bad += broken
        alone, mixed = max(alone, peak), max(mixed, float(np.abs(mono).max(initial=0.0)))
        writer.write(at_s - start_s, mono, frame.sample_rate)
    writer.flush()
    return Waveform(out, writer.decoded, bad, alone > _AUDIBLE and mixed < _CANCELLED * alone, writer.overlap_s)


def _frames(source: Source, track: AudioTrack, start_s: float, end_s: float) -> Iterator[tuple[float, Any]]:
    """(second of its first sample, frame) for what is heard from a little before `start_s` to `end_s`."""
    wanted = np.flatnonzero((track.ends_s > start_s - _RUN_UP_S) & (track.times_s < end_s))
    for part in np.unique(track.part[wanted]):
        inside = wanted[track.part[wanted] == part]
        first, last = int(inside[0]), int(inside[-1])
        with open_media(source, int(part)) as container:
            stream: Any = audio_track(container)
            numbering = Numbering(track, int(part))
            here = first
            for packet in packets(container, stream):
                number = numbering.of(packet)
                if number is None or number < first:
                    continue
                if number > last:
                    break
                here = number
                yield from _decoded(stream, packet, track, here)
            yield from _decoded(stream, None, track, here)


def _decoded(stream: Any, packet: Any, track: AudioTrack, number: int) -> Iterator[tuple[float, Any]]:
    """Decodes a packet, or drains the decoder. A damaged packet gives nothing: its time stays silent."""
    import av

    try:
        frames = stream.codec_context.decode(packet)
    except (av.FFmpegError, *DECODER_ERRORS):
        return
    stamp, tick_s = int(track.pts[number]), float(stream.time_base)
    next_s = float(track.heard_s[number] if packet is not None else track.ends_s[number])
    for frame in frames:
        # A frame's own time stamp tells what the decoder dropped from its front, or that it belongs to an earlier packet.
        moved_s = (frame.pts - stamp) * tick_s if frame.pts is not None and stamp != NO_PTS else np.inf
        at_s = float(track.times_s[number]) + moved_s if abs(moved_s) < _RUN_UP_S else next_s
        next_s = at_s + frame.samples / max(1, frame.sample_rate)
        yield at_s, frame


class _Writer:
    """Puts decoded samples where they belong in `out`, resampled piece by piece."""

    def __init__(self, out: Samples) -> None:
        self._out = out
        self._resampler: Any = None
        self._rate_hz = 0
        self._at = 0
        """Where in `out` the next resampled sample goes."""
        self._next_s: float | None = None
        """Where the next decoded sample goes if the frames follow each other."""
        self.decoded = 0
        self.overlap_s = 0.0

    @property
    def full(self) -> bool:
        return self._at >= len(self._out)

    def write(self, at_s: float, mono: Samples, rate_hz: int) -> None:
        """Writes samples of which the first belongs at `at_s`, seconds from the beginning of `out`; what lies before 0 is dropped."""
        apart_s = np.inf if self._next_s is None else at_s - self._next_s
        if abs(apart_s) <= _DRIFT_S and self._next_s is not None:
            at_s = self._next_s
        overlap_s = -apart_s if -np.inf < apart_s < -_DRIFT_S else 0.0
        self.overlap_s += min(overlap_s, len(mono) / rate_hz)
        early_s = max(-at_s, overlap_s)
        if (early := round(early_s * rate_hz)) > 0:
            mono, at_s = mono[early:], at_s + early / rate_hz
        if not len(mono):
            return
        if apart_s > _DRIFT_S or rate_hz != self._rate_hz:
            self.flush()
            self._begin(at_s, rate_hz)
        self._next_s = at_s + len(mono) / rate_hz
        self._convert(mono)

    def flush(self) -> None:
        """Writes what the resampler still holds."""
        if self._resampler is not None:
            for piece in self._resampler.resample(None):
                self._put(piece.to_ndarray()[0])
            self._resampler = None

    def _begin(self, at_s: float, rate_hz: int) -> None:
        import av

        # A resampler may owe a sample when it is flushed, or have given one too many.
        self._at = round(at_s * SAMPLE_RATE_HZ)
        self._rate_hz = rate_hz
        self._resampler = None if rate_hz == SAMPLE_RATE_HZ else av.AudioResampler("flt", "mono", SAMPLE_RATE_HZ)

    def _convert(self, mono: Samples) -> None:
        import av

        if self._resampler is None:
            self._put(mono)
            return
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(mono[None]), format="flt", layout="mono")
        frame.sample_rate = self._rate_hz
        for piece in self._resampler.resample(frame):
            self._put(piece.to_ndarray()[0])

    def _put(self, piece: Samples) -> None:
        target = self._out[self._at : self._at + len(piece)]
        np.clip(piece[: len(target)], -1.0, 1.0, out=target)
        self._at += len(piece)
        self.decoded += len(target)


def _mono(frame: Any) -> tuple[Samples, int, float]:
    """(samples,) mean over the channels, as librosa does it for Qwen; how many source samples are no numbers, which become silence; a peak.

    The peak is what the loudest channel would leave if the others were silent.

    (swresample's own mix of float stereo is 3 dB louder, and clips.)
    """
    samples, bad = _samples(frame), 0
    scale = 1.0
    if samples.dtype.kind == "f":
        if not np.isfinite(peak := np.abs(samples).max(initial=0)) or peak > _LOUDEST:
            bad = int((~np.isfinite(samples)).sum())
            samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0).clip(-_LOUDEST, _LOUDEST)
    else:
        scale = 1.0 / float(1 << (8 * samples.dtype.itemsize - 1))
    if samples.dtype.kind == "u":
        samples = samples.astype(np.float32) - 128.0
    mean: Samples = samples.mean(axis=0, dtype=np.float32) * np.float32(scale)
    peak = scale * max(float(samples.max(initial=0)), -float(samples.min(initial=0))) / len(samples)
    return mean, bad, peak


def _samples(frame: Any) -> NDArray[Any]:
    """(channels, samples) of a frame in its own number format."""
    import av

    channels = frame.layout.nb_channels
    if frame.format.is_planar and channels <= _MAX_PLANAR and frame.format.name != "s64p":
        planes: NDArray[Any] = frame.to_ndarray()
        return planes
    pieces = [frame]
    if frame.format.is_planar or frame.format.name == "s64":  # NumPy gets no 64-bit whole numbers from PyAV
        packed_format = frame.format.packed.name.replace("s64", "dbl")
        pieces = av.AudioResampler(packed_format, frame.layout, frame.sample_rate).resample(frame)
    packed: NDArray[Any] = np.concatenate([piece.to_ndarray().reshape(-1, channels) for piece in pieces])
    return packed.T
