"""A sound track becomes 16 kHz mono float32, counted from the moment that was asked for.

Knows: any codec, rate and channel layout PyAV or libsndfile reads, and where each sample lies in time. Does not know: mel, tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omnidrop_cli.media.probe import open_media, origin_s, packets, sound_track
from omnidrop_cli.records import SAMPLE_RATE_HZ, SourceFacts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Sound = NDArray[np.float32]

_HOLE_S = 0.1
"""A gap between time stamps that is a gap in the sound; anything shorter is rounding."""

_RUN_UP_S = 0.5
"""Decoding begins this much early: mp3 and AAC frames borrow from the ones before."""

_BLOCK = 1 << 18
_PLAIN_FILES = {"wav", "flac"}


def read_sound(path: Path, facts: SourceFacts, start_s: float, end_s: float | None, cancelled: Callable[[], bool] = lambda: False) -> Sound:
    """(N,) float32 in [-1, 1]; sample 0 is at `start_s`, whenever the track itself begins. Empty where nothing decodes in the range.

    Gaps are silence. The end is `end_s` or the last sample. Stops early, with what there is, once `cancelled` says so.
    """
    pieces = _read_plain(path, start_s, end_s) if facts.container in _PLAIN_FILES and facts.video is None else None
    if pieces is None:
        pieces = _read_any(path, start_s, end_s)
    wanted = None if end_s is None else round((end_s - start_s) * SAMPLE_RATE_HZ)
    parts: list[Sound] = []
    length = 0
    for piece in pieces:
        if cancelled():
            break
        parts.append(piece)
        length += len(piece)
    sound = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return np.clip(sound[:wanted], -1.0, 1.0)


def _read_plain(path: Path, start_s: float, end_s: float | None) -> Iterator[Sound] | None:
    """wav and flac through libsndfile: exact seeking, no packets. None where it cannot read this one."""
    import soundfile

    try:
        with soundfile.SoundFile(path):
            pass
    except soundfile.LibsndfileError:
        return None

    def pieces() -> Iterator[Sound]:
        with soundfile.SoundFile(path) as file:
            first = min(round(start_s * file.samplerate), file.frames)
            last = file.frames if end_s is None else min(round(end_s * file.samplerate), file.frames)
            file.seek(first)
            convert = _Converter()
            while first < last and len(block := file.read(min(_BLOCK, last - first), dtype="float32", always_2d=True)):
                first += len(block)
                yield from convert.samples(block.mean(axis=1), file.samplerate)
            yield from convert.rest()

    return pieces()


def _read_any(path: Path, start_s: float, end_s: float | None) -> Iterator[Sound]:
    import av

    with open_media(path) as container:
        stream: Any = sound_track(container)  # the facts name one
        origin = origin_s(container)
        if start_s > _RUN_UP_S:
            container.seek(int((start_s - _RUN_UP_S + origin) / stream.time_base), stream=stream)
        convert = _Converter()
        now: float | None = None  # where the next sample belongs, by the samples so far
        for frame in _frames(container, stream, av.FFmpegError):
            at = now or 0.0 if frame.pts is None else float(frame.pts * frame.time_base) - origin
            if end_s is not None and at >= end_s:
                break
            samples = _trimmed(frame, start_s - at)
            if samples is not None:
                # The first sample's distance from start_s, or a hole in the middle: silence either way.
                silence = max(0.0, at - start_s) if now is None else at - now
                if silence > (0 if now is None else _HOLE_S):
                    yield from convert.rest()
                    yield np.zeros(round(silence * SAMPLE_RATE_HZ), np.float32)
                    now = at
                now = max(at, start_s) if now is None else now
                now += samples.samples / samples.sample_rate
                yield from convert.frame(samples)
        yield from convert.rest()


def _frames(container: Any, stream: Any, damage: type[Exception]) -> Iterator[Any]:
    for packet in packets(container, stream):
        try:
            yield from stream.codec_context.decode(packet)
        except damage:
            continue
    try:
        yield from stream.codec_context.decode(None)
    except damage:
        return


def _trimmed(frame: Any, early_s: float) -> Any | None:
    """`frame` without its first `early_s` seconds; None if nothing is left. Cut before resampling, so that sample 0 is exact."""
    import av

    skip = round(early_s * frame.sample_rate)
    if skip <= 0:
        return frame
    if skip >= frame.samples:
        return None
    planes = frame.to_ndarray()
    step = 1 if frame.format.is_planar else frame.layout.nb_channels
    rest = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes[:, skip * step :]), format=frame.format.name, layout=frame.layout)
    rest.sample_rate = frame.sample_rate
    return rest


class _Converter:
    """Frames of any format in, 16 kHz mono out; survives a change of format in the middle of a track."""

    def __init__(self) -> None:
        self._resampler: Any = None
        self._format: tuple[str, str, int] | None = None

    def frame(self, frame: Any) -> Iterator[Sound]:
        import av

        now = (frame.format.name, frame.layout.name, frame.sample_rate)
        if now != self._format:
            yield from self.rest()
            self._resampler, self._format = av.AudioResampler("flt", "mono", SAMPLE_RATE_HZ), now
        frame.pts = None  # the resampler would judge time stamps; that is settled above
        for piece in self._resampler.resample(frame):
            yield piece.to_ndarray()[0]

    def samples(self, mono: Sound, rate_hz: int) -> Iterator[Sound]:
        import av

        if rate_hz == SAMPLE_RATE_HZ:
            yield mono
            return
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(mono[None]), format="flt", layout="mono")
        frame.sample_rate = rate_hz
        yield from self.frame(frame)

    def rest(self) -> Iterator[Sound]:
        """What the filter still holds."""
        if self._resampler is not None:
            for piece in self._resampler.resample(None):
                yield piece.to_ndarray()[0]
        self._resampler = self._format = None
