"""Finds out what a media file holds by reading all of its packets once: tracks, their timeline, facts. Never by its suffix.

Only the first picture and the first sound of each track are decoded. A track in which nothing can be decoded is none.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidrop_cli.errors import MediaError
from omnidrop_cli.media.container import (
    ANIMATED_WEBP,
    DAMAGED,
    KINDS,
    Source,
    audio_track,
    find_source,
    foreign_tracks,
    guarded,
    has_cover,
    is_animated_webp,
    may_jump,
    open_media,
    packets,
    video_track,
)
from omnidrop_cli.media.packets import Picture, Sound, TrackReader
from omnidrop_cli.media.respace import rescaled, respaced
from omnidrop_cli.media.timeline import Timeline, TrackPackets, build_timeline
from omnidrop_cli.outputs import AudioStream, SourceFacts, VideoStream

if TYPE_CHECKING:
    from av.container import InputContainer

    _Video = tuple[VideoStream, TrackPackets]
    _Audio = tuple[AudioStream, TrackPackets]

_MICROSECOND = 1e-6
_MAX_RATE = 1000.0
_OPEN_WAV = 0x7FFF0000
"""Sizes from here on stand for "unknown" (a stream that was written to a pipe)."""

_JOINED_BY_DESIGN = ("ogg", "aac")
"""Formats in which files that stand one behind the other are one file."""

_STRETCHED = 10.0
"""A larger ratio of width to height, or height to width, of a pixel is damage."""


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """A file that was read once without decoding it: facts for the user, the timeline for planning, and what is odd, a sentence each.

    `promised_s` is the length that the container states where it is no guess, else None; `reached_s` how far the packets of all its
    tracks go, on the same clock. `broken` says of tracks and parts, by their name, why nothing in them can be decoded.
    """

    source: Source
    facts: SourceFacts
    timeline: Timeline
    promised_s: float | None
    reached_s: float
    has_cover: bool
    broken: Mapping[str, str]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """What one part of a file holds."""

    format: str
    jumping: bool
    has_cover: bool
    video: _Video | None
    audio: _Audio | None
    broken: Mapping[str, str]
    promised_s: float | None
    reached_s: float
    notes: tuple[str, ...] = ()


_UNREADABLE = _Part("", False, False, None, None, {"a part of this file": DAMAGED}, None, 0.0)


def probe(path: str | Path, *, hash_content: bool = False) -> SourceFacts:
    """Facts of a file; `hash_content` fills `sha256`. Raises `MediaError` for anything without a readable video or audio track."""
    facts = scan(path).facts
    return replace(facts, sha256=_sha256(Path(path))) if hash_content else facts


def scan(path: str | Path) -> Scan:
    """Reads the packets of a file. Raises `MediaError` for anything without a readable video or audio track."""
    source = find_source(Path(path))
    parts = _read_parts(source)
    form = next(part.format for part in parts if part.format)
    video = next((part.video[0] for part in parts if part.video), None)
    audio = next((part.audio[0] for part in parts if part.audio), None)
    broken = {name: reason for part in parts for name, reason in part.broken.items()}
    if video is None and audio is None:
        if broken:
            raise _nothing_decodable(path, broken)
        raise MediaError(f"{path}: no video and no audio track in this {form} file", KINDS)
    if source.grid is not None and video is not None:  # read as a PPM file that was put together
        form, video = "heif", replace(video, codec="tiles")
    timeline = build_timeline([_packets(part) for part in parts], any(part.jumping for part in parts))
    facts = SourceFacts(
        path=str(path),
        container=form,
        size_bytes=source.size_bytes,
        duration_s=timeline.end_s,
        video=None
        if video is None or timeline.video is None
        else replace(video, duration_s=timeline.video.end_s, frames=int(timeline.video.shown.sum())),
        audio=None if audio is None or timeline.audio is None else replace(audio, duration_s=timeline.audio.end_s),
    )
    one = parts[0] if len(parts) == 1 else None
    return Scan(
        source=source,
        facts=facts,
        timeline=timeline,
        promised_s=one.promised_s if one else None,
        reached_s=one.reached_s if one else timeline.end_s,
        has_cover=any(part.has_cover for part in parts),
        broken=broken,
        warnings=(*_warnings(source, form, timeline), *dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _nothing_decodable(path: str | Path, broken: Mapping[str, str]) -> MediaError:
    if set(broken.values()) == {DAMAGED}:
        return MediaError(f"{path}: {' and '.join(broken)} cannot be decoded", "the file may be damaged; try to play it")
    reasons = "; ".join(f"{name} {reason}" for name, reason in broken.items())
    return MediaError(f"{path}: {reasons}", "convert it first, a picture to png, a clip to mp4")


def _packets(part: _Part) -> tuple[TrackPackets | None, TrackPackets | None]:
    return None if part.video is None else part.video[1], None if part.audio is None else part.audio[1]


def _warnings(source: Source, form: str, timeline: Timeline) -> Iterator[str]:
    if len(source.parts) > 1 and form not in _JOINED_BY_DESIGN:
        yield f"this file is {len(source.parts)} files one behind the other: all are used"
    if source.open_list:
        yield "the playlist is still open: what it lists now is used"
    yield from timeline.notes


def _read_parts(source: Source) -> list[_Part]:
    """Every part of a file. One that cannot be opened is broken; raises its `MediaError` where all are."""
    parts, errors = list[_Part](), list[MediaError]()
    for number in range(len(source.parts)):
        try:
            parts.append(_read_part(source, number))
        except MediaError as error:
            errors.append(error)
            parts.append(_UNREADABLE)
    if len(errors) == len(parts):
        raise errors[0]
    return parts


def _read_part(source: Source, number: int) -> _Part:
    with open_media(source, number) as container, guarded(source.path, "it"):
        streams = [s for s in (video_track(container), audio_track(container)) if s is not None]
        readers = {stream.index: TrackReader(stream) for stream in streams}
        reached_s = _read_packets(container, readers)
        video, audio, broken = None, None, foreign_tracks(container)
        for stream in streams:
            reader = readers[stream.index]
            if isinstance(reader.first, Picture):
                video = _video(stream, reader, reader.first)
            elif isinstance(reader.first, Sound):
                audio = _audio(stream, reader, reader.first)
            elif len(reader):
                broken[f"the {stream.type} track"] = ANIMATED_WEBP if is_animated_webp(source, container) else DAMAGED
        promised_s = _promised_s(container, source)
        notes: tuple[str, ...] = ()
        if video is not None:
            video, notes = _credible(video, audio, streams[0], promised_s)
        return _Part(
            format=container.format.name,
            jumping=may_jump(container),
            has_cover=has_cover(container),
            video=video,
            audio=audio,
            broken=broken,
            promised_s=promised_s,
            reached_s=reached_s,
            notes=notes,
        )


def _credible(video: _Video, audio: _Audio | None, stream: Any, promised_s: float | None) -> tuple[_Video, tuple[str, ...]]:
    """The video track, which is `stream`, with credible time stamps, and what was changed."""
    facts, packets = video
    in_fragments = stream.container.format.name.startswith("mov") and not stream.frames  # FFmpeg adds their lengths up
    stated_s = None if in_fragments else promised_s
    # FFmpeg takes a tick for a second where the time scale is no number that can be, which no muxer writes into fragments.
    unusable = in_fragments and audio is None and stream.time_base == 1
    tick_s = math.inf if unusable else float(stream.time_base)
    moved = respaced(packets, tick_s, None if audio is None else audio[1], stated_s)
    if moved is None and audio is not None:
        moved = rescaled(packets, audio[1])
    if moved is None:
        return video, ()
    return (replace(facts, fps=min(1 / moved[0].usual_s, _MAX_RATE)), moved[0]), (moved[1],)


def _read_packets(container: InputContainer, readers: dict[int, TrackReader]) -> float:
    """Hands every packet to its track's reader. Returns how far the packets of all tracks reach, in seconds."""
    reached: dict[int, tuple[int, Fraction]] = {}
    for order, packet in enumerate(packets(container)):
        index = packet.stream_index
        reader = readers.get(index)
        if reader is not None:
            reader.add(order, packet)
        if packet.pts is not None and packet.time_base:
            end = packet.pts + (packet.duration or 0)
            if index not in reached or end > reached[index][0]:
                reached[index] = (end, packet.time_base)
    for reader in readers.values():
        reader.finish()
    start_s = (container.start_time or 0) * _MICROSECOND
    end_s = max((float(end * tick) for end, tick in reached.values()), default=0.0)
    return max(end_s, end_s - start_s)


def _promised_s(container: InputContainer, source: Source) -> float | None:
    """The length that the container's header states. None where FFmpeg estimates it from the bit rate or from time stamps that may jump."""
    if container.format.name == "wav":
        return _promised_by_wav(source)
    if not container.duration or container.duration < 0 or may_jump(container):
        return None
    length_s = float(container.duration * _MICROSECOND)
    rate = sum(s.codec_context.bit_rate or 0 for s in container.streams if s.codec_context is not None)
    if rate and abs(8 * source.size_bytes / rate - length_s) < 0.02 * length_s:
        return None
    return length_s


def _promised_by_wav(source: Source) -> float | None:
    """Seconds by the size of the data chunk, which FFmpeg silently cuts to what is there. None where a recorder left it open.

    None also for compressed sound, whose bytes a second are an estimate: those of PCM are its rate times the bytes of a sample.
    """
    with source.path.open("rb") as file:
        head = file.read(1 << 16)
    form, data = head.find(b"fmt "), head.find(b"data")
    if form < 0 or data < 0:
        return None
    try:
        rate_hz, bytes_per_s, block = struct.unpack_from("<IIH", head, form + 12)
        (size,) = struct.unpack_from("<I", head, data + 4)
    except struct.error:  # the file ends there
        return None
    return size / bytes_per_s if bytes_per_s and bytes_per_s == rate_hz * block and size < _OPEN_WAV else None


def _video(stream: Any, reader: TrackReader, picture: Picture) -> tuple[VideoStream, TrackPackets]:
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    rate = rate if 0 < rate <= _MAX_RATE else 25.0
    aspect = float(stream.sample_aspect_ratio or 1)
    return VideoStream(
        codec=stream.codec_context.name,
        width=picture.width,
        height=picture.height,
        fps=rate,
        duration_s=None,
        rotation_deg=picture.rotation_deg,
        mirrored=picture.mirrored,
        pixel_aspect=aspect if 1 / _STRETCHED <= aspect <= _STRETCHED else 1.0,
    ), reader.packets(1 / rate)


def _audio(stream: Any, reader: TrackReader, sound: Sound) -> tuple[AudioStream, TrackPackets]:
    return AudioStream(stream.codec_context.name, sound.rate_hz, sound.channels, None), reader.packets(0.0)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
