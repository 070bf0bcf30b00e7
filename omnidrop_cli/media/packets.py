"""Reads the packets of one track: all of them while a file is scanned, and again by their number when it is decoded."""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from omnidrop_cli.media.clock import HOLE_S
from omnidrop_cli.media.timeline import NO_PTS, TrackPackets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from omnidrop_cli.media.timeline import AudioTrack, VideoTrack

DECODER_ERRORS = (OSError, ValueError, ArithmeticError, LookupError, RuntimeError, MemoryError)
"""What PyAV raises, besides `av.FFmpegError`, where a decoder fails."""

_KEY, _DAMAGED, _OUTSIDE = 1, 2, 4
_LONGEST_S = 1.0
"""A packet lasts at most this long, or four times as long as the first one that was decoded."""

_MIN_RATE_HZ = 1000
"""No recording of speech or music has a lower sample rate; a damaged header may, and would last for hours."""

_DEPTH = 32
"""Packets from which a decoder that finds no key frame may still give a picture."""

_PATIENCE = 300
"""Packets without a picture after which only key frames are tried."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The first picture of a video track: stored size in pixels, and how it is turned upright.

    First mirrored left to right if `mirrored`, then turned counter-clockwise by `rotation_deg`.
    """

    width: int
    height: int
    rotation_deg: int
    mirrored: bool


@dataclass(frozen=True, slots=True)
class Sound:
    """The first decoded piece of an audio track; `size` bytes of a packet held it."""

    rate_hz: int
    channels: int
    samples: int
    size: int


class TrackReader:
    """Collects the packets of one track in the order of the file, and decodes until there is a first frame."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._is_video = stream.type == "video"
        self._is_pcm = stream.codec_context.name.startswith("pcm_")
        self._is_raw_flac = stream.container.format.name == "flac"
        self._is_vp9 = self._is_video and stream.codec_context.name == "vp9"
        self._rows = [array("q") for _ in range(9)]
        self._tried = 0
        self._early: list[Any] = []
        """The first packets of a video track in which no key frame was found yet."""
        self._last: Any = None
        self._last_s: float | None = None
        self.first: Picture | Sound | None = None
        if self._is_video:
            stream.codec_context.thread_count = 1

    def __len__(self) -> int:
        return len(self._rows[0])

    def add(self, order: int, packet: Any) -> None:
        """Takes the next packet; `order` is its place among the packets of all tracks."""
        pts, dts = packet.pts, packet.dts
        skip, trim = (0, 0) if self._is_video else _skipped(packet)
        # A damaged packet of audio is played as far as it goes; a damaged picture is not shown.
        key = packet.is_keyframe and not (self._is_vp9 and _predicted(packet))
        flags = _KEY * key + _DAMAGED * (self._is_video and packet.is_corrupt) + _OUTSIDE * packet.is_discard
        values = (
            order,
            -1 if packet.pos is None else packet.pos,
            NO_PTS if pts is None else pts,
            NO_PTS if dts is None else dts,
            packet.duration or 0,
            packet.size,
            flags,
            skip,
            trim,
        )
        for row, value in zip(self._rows, values, strict=True):
            row.append(value)
        if self.first is None:
            self._try(packet, key)
        elif not self._is_video:
            self._last = packet

    def _try(self, packet: Any, key: bool) -> None:
        """Decodes a packet, from the first key frame on, if there may be a first frame in it."""
        import av

        if self._is_video and not key and not 0 < self._tried < _PATIENCE:
            if not self._tried and len(self._early) < _DEPTH and not self._is_vp9:
                self._early.append(packet)
            return
        self._early.clear()
        self._tried += 1
        try:
            frames = self._stream.codec_context.decode(packet)
        except (av.FFmpegError, *DECODER_ERRORS):
            return
        self._note(frames, packet.size)

    def _note(self, frames: list[Any], size: int = 0) -> None:
        for frame in frames:
            if self._is_video and frame.width and frame.height:
                self.first = Picture(frame.width, frame.height, *orientation(frame))
                return
            if not self._is_video and frame.sample_rate >= _MIN_RATE_HZ and frame.samples:
                self.first = Sound(frame.sample_rate, frame.layout.nb_channels, frame.samples, size)
                return

    def finish(self) -> None:
        """Looks for a first frame among those that the decoder still holds, and how much is in the last packet of audio."""
        import av

        codec = self._stream.codec_context
        try:
            for packet in self._early:  # a format that marks no key frames
                self._note(codec.decode(packet), packet.size)
            if self.first is None and len(self):
                self._note(codec.decode(None))
            elif self._last is not None:
                frames = codec.decode(self._last)
                self._last_s = sum(frame.samples / frame.sample_rate for frame in frames) or None
        except (av.FFmpegError, *DECODER_ERRORS):
            return

    def packets(self, usual_s: float) -> TrackPackets:
        """What was read. `usual_s` is the length of a packet where nothing else is known."""
        order, place, pts, dts, duration, size, flags, skip, trim = (np.array(row, np.int64) for row in self._rows)
        tick_s = float(self._stream.time_base)
        if isinstance(self.first, Sound):
            usual_s = self.first.samples / self.first.rate_hz
        rate_hz = self.first.rate_hz if isinstance(self.first, Sound) else 1
        # FLAC frames count samples. Without the header of the file, FFmpeg takes them for ticks of 44,100 Hz.
        stamp_s = 1 / rate_hz if self._is_raw_flac and isinstance(self.first, Sound) else tick_s
        declared = duration[duration > 0] * tick_s
        typical_s = min(float(np.median(declared)) if len(declared) else usual_s, HOLE_S if self._is_video else np.inf)
        longest_s = min(max(_LONGEST_S, 4 * typical_s), HOLE_S) if self._is_video else max(_LONGEST_S, 4 * usual_s)
        if typical_s > longest_s:
            typical_s = usual_s
        lengths = np.maximum(duration, 0) * tick_s
        if self._is_pcm and isinstance(self.first, Sound) and self.first.size:
            lengths = np.multiply(size, usual_s / self.first.size, dtype=np.float64)  # whatever a header says, bytes are samples
        if self._last_s is not None and 0 < lengths[-1] < typical_s and not trim[-1]:
            # Containers shorten the last packet of AAC to where the recording ended; its decoder gives all of it, as every player's does.
            lengths[-1] = max(lengths[-1], min(self._last_s, typical_s))
        return TrackPackets(
            order=order,
            place=place,
            pts=pts,
            size=size,
            pts_s=np.where(pts == NO_PTS, np.nan, pts * stamp_s),
            dts_s=np.where(dts == NO_PTS, np.nan, dts * stamp_s),
            length_s=lengths,
            keyframe=(flags & _KEY) != 0,
            hidden=(flags & (_DAMAGED | _OUTSIDE)) != 0,
            outside=(flags & _OUTSIDE) != 0,
            skip_s=skip / rate_hz,
            trim_s=trim / rate_hz,
            usual_s=typical_s,
            longest_s=longest_s,
            held_s=self.first.samples / rate_hz if isinstance(self.first, Sound) else 0.0,
        )


def _predicted(packet: Any) -> bool:
    """Whether a VP9 packet that its container calls a key frame is none (VP9 bitstream specification, 6.2).

    FFmpeg's decoder crashes where decoding begins at such a packet.
    """
    first = memoryview(packet)[0]
    profile = first >> 4 & 3
    return profile < 3 and (first & 0xC0 != 0x80 or bool(first & 0x0C))


def _skipped(packet: Any) -> tuple[int, int]:
    """Samples to cut from the front and the end of a packet (AV_PKT_DATA_SKIP_SAMPLES, libavcodec/packet.h)."""
    if not packet.has_sidedata("skip_samples"):
        return 0, 0
    skip, trim = struct.unpack_from("<II", bytes(packet.get_sidedata("skip_samples")))
    return skip, trim


def orientation(frame: Any) -> tuple[int, bool]:
    """(rotation_deg, mirrored) of a decoded picture from its display matrix, as `Picture` holds them.

    A matrix (a b; c d) shows the stored point (x, y) at (a x + c y, b x + d y) (ISO 14496-12, 6.2.2); x grows to the right, y down.
    """
    _name_all_side_data()
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 0, False
    a, b, _, c, d = struct.unpack_from("=5i", bytes(data))
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    clockwise = np.degrees(np.arctan2(b, a)) if a or b else 0.0
    return int(round(-clockwise / 90) * 90 % 360), mirrored


def _name_all_side_data() -> None:
    """Lets PyAV read the side data of frames that hold a kind it has no name for.

    PyAV 18 raises `ValueError` for all side data of such a frame: of every photo with EXIF (FFmpeg 8), of both views of a spatial video.
    """
    from av.sidedata.sidedata import Type

    def unnamed(cls: type[Any], value: int) -> Any:
        member: Any = object.__new__(cls)
        member._name_, member._value_ = f"UNNAMED_{value}", value
        return member

    kinds: Any = Type
    kinds._missing_ = classmethod(unnamed)


class Numbering:
    """Gives the packets of one part of a file the numbers they have in a track, also after a seek."""

    def __init__(self, track: VideoTrack | AudioTrack, part: int) -> None:
        self._pts, self._size = track.pts, track.size
        inside: NDArray[np.int64] = np.flatnonzero(track.part == part)
        self._next, self._end = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)
        self._first = self._next
        self._places: dict[tuple[int, int], list[int]] | None = None

    def of(self, packet: Any) -> int | None:
        """The packet's number, or None where it was not there when the file was scanned."""
        pts, size = NO_PTS if packet.pts is None else packet.pts, packet.size
        number = self._next
        if not (number < self._end and self._pts[number] == pts and self._size[number] == size):
            found = self._find(pts, size)
            if found is None:
                return None
            number = found
        self._next = number + 1
        return number

    def _find(self, pts: int, size: int) -> int | None:
        if self._places is None:
            self._places = {}
            for number in range(self._first, self._end):
                self._places.setdefault((int(self._pts[number]), int(self._size[number])), []).append(number)
        places = self._places.get((pts, size), [])
        return next((number for number in places if number >= self._next), places[0] if places else None)
