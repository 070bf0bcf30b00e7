"""A sound track becomes 16 kHz mono float32, counted from the moment that was asked for.

Knows: any codec, rate and channel layout PyAV or libsndfile reads, and where each sample lies in time. Does not know: mel, tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omnidrop_cli.media.probe import open_media, origin_s, packets, sound_track
from omnidrop_cli.outputs import SAMPLE_RATE_HZ, SourceFacts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Sound = NDArray[np.float32]

_HOLE_S = 0.1
"""A gap between time stamps that is a gap in the sound; anything shorter is rounding."""

_RUN_UP_S = 0.5
"""Decoding begins this much early: mp3 and AAC frames borrow from the ones before."""

_MAX_PLANAR = 7
"""`AudioFrame.to_ndarray` counts the planes of a frame up to the first empty pointer. Behind the eighth pointer lies other memory."""

_LOUDEST = 64.0
"""Floating point samples beyond this are no sound; a filter would spread them, or overflow."""


def read_sound(path: Path, facts: SourceFacts, start_s: float, end_s: float | None, cancelled: Callable[[], bool] = lambda: False) -> Sound:
    """(N,) float32 in [-1, 1]; sample 0 is at `start_s`, whenever the track itself begins. Empty where nothing decodes in the range.

    Gaps are silence. The end is `end_s` or the last sample. Stops early, with what there is, once `cancelled` says so.
    """
    wanted = None if end_s is None else round((end_s - start_s) * SAMPLE_RATE_HZ)
    parts: list[Sound] = []
    length = 0
    for piece in _read_any(path, start_s, end_s):
        if cancelled():
            break
        parts.append(piece)
        length += len(piece)
    sound = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return np.clip(sound[:wanted], -1.0, 1.0)


def _read_any(path: Path, start_s: float, end_s: float | None) -> Iterator[Sound]:
    """Any other track, frame by frame, each put where its time stamp says."""
    with open_media(path) as container:
        stream: Any = sound_track(container)  # the facts name one
        origin = origin_s(container)
        if start_s > _RUN_UP_S:
            container.seek(int((start_s - _RUN_UP_S + origin) / stream.time_base), stream=stream)
        convert = _Converter()
        now: float | None = None  # where the next sample belongs, going by those so far
        for frame in _frames(container, stream):
            at = (now or 0.0) if frame.pts is None else float(frame.pts * frame.time_base) - origin
            if end_s is not None and at >= end_s:
                break
            mono, rate = _mono(frame), frame.sample_rate
            if (early := round((start_s - at) * rate)) > 0:
                mono, at = mono[early:], at + early / rate
            if not len(mono):
                continue
            silence_s = max(0.0, at - start_s) if now is None else at - now
            if silence_s > (_HOLE_S if now is not None else 0.0):
                yield from convert.rest()
                yield np.zeros(round(silence_s * SAMPLE_RATE_HZ), np.float32)
                now = at
            now = (at if now is None else now) + len(mono) / rate
            yield from convert(mono, rate)
        yield from convert.rest()


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    import av

    for packet in packets(container, stream):
        try:
            yield from stream.codec_context.decode(packet)
        except av.FFmpegError:
            continue  # a damaged packet; its time is filled with silence
    try:
        yield from stream.codec_context.decode(None)
    except av.FFmpegError:
        return


def _mono(frame: Any) -> Sound:
    """(samples,) mean over the channels, as librosa does it for Qwen. (swresample's own mix of float stereo is 3 dB louder, and clips.)

    Samples that are not numbers become silence.
    """
    samples = _samples(frame)
    if samples.dtype.kind == "f":
        samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0).clip(-_LOUDEST, _LOUDEST)
        scale = 1.0
    else:
        scale = 1.0 / float(1 << (8 * samples.dtype.itemsize - 1))
    if samples.dtype.kind == "u":
        samples = samples.astype(np.float32) - 128.0
    mean: Sound = samples.mean(axis=0, dtype=np.float32) * np.float32(scale)
    return mean


def _samples(frame: Any) -> NDArray[Any]:
    """(channels, samples) of a frame in its own number format."""
    import av

    channels = frame.layout.nb_channels
    if frame.format.is_planar and channels <= _MAX_PLANAR:
        planes: NDArray[Any] = frame.to_ndarray()
        return planes
    pieces = [frame]
    if frame.format.is_planar:
        pieces = av.AudioResampler(frame.format.packed, frame.layout, frame.sample_rate).resample(frame)
    packed: NDArray[Any] = np.concatenate([piece.to_ndarray().reshape(-1, channels) for piece in pieces])
    return packed.T


class _Converter:
    """Mono of any rate in, 16 kHz out; survives a change of rate in the middle of a track."""

    def __init__(self) -> None:
        self._resampler: Any = None
        self._rate_hz = 0

    def __call__(self, mono: Sound, rate_hz: int) -> Iterator[Sound]:
        import av

        if rate_hz != self._rate_hz:
            yield from self.rest()
            self._rate_hz = rate_hz
            self._resampler = None if rate_hz == SAMPLE_RATE_HZ else av.AudioResampler("flt", "mono", SAMPLE_RATE_HZ)
        if self._resampler is None:
            yield mono
            return
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(mono[None]), format="flt", layout="mono")
        frame.sample_rate = rate_hz
        for piece in self._resampler.resample(frame):
            yield piece.to_ndarray()[0]

    def rest(self) -> Iterator[Sound]:
        """What the filter still holds; the next samples begin afresh."""
        if self._resampler is not None:
            for piece in self._resampler.resample(None):
                yield piece.to_ndarray()[0]
        self._resampler, self._rate_hz = None, 0
