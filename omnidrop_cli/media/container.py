"""Opens media files: from a path to PyAV containers, their chosen tracks and their packets.

Every failure of FFmpeg leaves this package as one `MediaError`. A file is a list of parts, each a container of its own: joined files have
several (`joined.py`), everything else has one.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from omnidrop_cli.errors import MediaError
from omnidrop_cli.media import joined, playlist, tiles
from omnidrop_cli.suggest import did_you_mean

if TYPE_CHECKING:
    from av.container import InputContainer

KINDS = "mp4, mkv, webm, mov, avi, gif, mp3, m4a, ogg, wav and flac files can be read"
DAMAGED = "is damaged: nothing in it can be decoded"
ANIMATED_WEBP = "is an animated WebP, which FFmpeg cannot decode"
IN_TILES = "is one picture in tiles, which cannot be put together"
FOREIGN = "has a codec that FFmpeg cannot decode"
"""What is wrong with a track, behind its name."""

_NOT_MEDIA = {"tty"}  # FFmpeg's reader of ANSI art accepts any .txt file
_DAMAGED_PACKETS = 64
"""How often reading goes on after an error of the container."""

_OPTIONS = {
    # A clip is one local file and the files that it names; a playlist must not reach the network.
    "protocol_whitelist": "file,crypto,data",
    # A playlist without an end is read from its beginning and not waited for.
    "live_start_index": "0",
    "max_reload": "1",
    # A picture is the file of that name: "%d.jpg" is no pattern.
    "pattern_type": "none",
}
_MOST_NAMES = 500
"""Names that are compared with a misspelt one; each takes 0.2 ms where it is similar."""

_TS_DISCONT = 0x0200
"""AVFMT_TS_DISCONT (libavformat/avformat.h): time stamps of this format may jump."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file on disk and its parts: byte ranges that are containers of their own, which FFmpeg reads as `format` (None: as it finds).

    `is_list`: a playlist; `open_list`: one that does not end. `grid`: how the tiles of a picture make it up.
    """

    path: Path
    size_bytes: int
    changed_ns: int
    parts: joined.Parts
    format: str | None = None
    is_list: bool = False
    open_list: bool = False
    grid: tiles.Grid | None = None


def no_such_file(path: Path) -> MediaError:
    """The error for a file that is not there, with a file of nearly that name in its hint."""
    try:
        names = [entry.name for entry in islice(path.parent.iterdir(), _MOST_NAMES)]
    except (OSError, ValueError):
        names = []
    hint = did_you_mean(path.name, names, "check the path; a URL begins with http:// or https://")
    return MediaError(f"{path}: no such file", hint)


def find_source(path: Path) -> Source:
    """Looks at a file without opening it as media. Raises `MediaError` where there is no readable file with content."""
    if os.path.isdir(path):  # False also for what is no name of a file
        raise MediaError(f"{path} is a folder, not a clip", "give one file; `omnidrop batch` takes folders")
    try:
        facts = path.stat()
        if not path.is_file():
            raise MediaError(f"{path} is not a regular file", "write a pipe or a device to a file first")
        if facts.st_size == 0:
            raise MediaError(f"{path} is empty", "the download or copy may have failed; fetch it again")
        with path.open("rb") as file:
            is_list = file.read(len(playlist.MARK)) == playlist.MARK
            form, parts = joined.find_parts(file)
            grid = tiles.find_grid(file)
        if is_list and playlist.is_nested(path):
            raise MediaError(f"{path}: a playlist of playlists names another such one", "give a playlist that lists the pieces of a clip")
        open_list = is_list and playlist.is_open(path)
    except FileNotFoundError:
        raise no_such_file(path) from None
    except PermissionError:
        raise MediaError(f"{path}: permission denied", "check who may read the file") from None
    except (OSError, ValueError) as error:
        raise MediaError(f"{path} cannot be read ({_reason(error)})", "check the path and the disk") from error
    return Source(path, facts.st_size, facts.st_mtime_ns, parts, form, is_list, open_list, grid)


@contextmanager
def open_media(source: Source, part: int = 0) -> Iterator[InputContainer]:
    """One part of a file as a PyAV container, closed at the end of the block. Raises `MediaError`."""
    import av

    # An absolute path is never taken for an FFmpeg protocol ("take: one.mp4").
    absolute = os.path.abspath(source.path)
    file: BinaryIO | io.RawIOBase | None = None
    try:
        facts = source.path.stat()
        if (facts.st_size, facts.st_mtime_ns) != (source.size_bytes, source.changed_ns):
            raise MediaError(f"{source.path} changed while it was read", "try again once it is complete")
        if len(source.parts) > 1:
            file = joined.FileRange(absolute, *source.parts[part])
        elif source.grid is not None:
            file = tiles.assembled(absolute, source.grid)
        form, opener = ("hls", playlist.open_file) if source.open_list else (source.format, None)
        # Broken tags are no reason to fail.
        container = av.open(file or absolute, options=_OPTIONS, metadata_errors="ignore", format=form, io_open=opener)
    except (av.FFmpegError, OSError, ValueError, LookupError) as error:
        hint = (
            "check that the files are there which this playlist names"
            if source.is_list
            else f"{KINDS}; a file cut short may lack its index"
        )
        raise MediaError(f"{source.path} cannot be read as video or audio ({_reason(error)})", hint) from error
    try:
        with container:
            if container.format.name in _NOT_MEDIA:
                raise MediaError(f"{source.path} is a text file, not a clip", KINDS)
            yield container
    finally:
        if file is not None:
            file.close()


@contextmanager
def guarded(path: Path, what: str) -> Iterator[None]:
    """Turns every error of a decoder into a `MediaError` that names the file and `what` is damaged."""
    import av

    try:
        yield
    except (av.FFmpegError, OSError, ValueError, ArithmeticError, LookupError, RuntimeError, MemoryError) as error:
        raise MediaError(f"{path}: {what} cannot be decoded ({_reason(error)})", "the file may be damaged; try to play it") from error


def _reason(error: BaseException) -> str:
    if getattr(error, "errno", None) == errno.EPERM:  # -1, what many of FFmpeg's readers return for any trouble
        return "invalid data found when processing input"
    return str(getattr(error, "strerror", None) or error or type(error).__name__).lower()


def may_jump(container: InputContainer) -> bool:
    """Whether time stamps of this format may jump (MPEG-TS, MPEG-PS): a long hole is then never a picture that stays."""
    return bool(int(container.format.flags) & _TS_DISCONT)


def video_track(container: InputContainer) -> Any | None:
    """The video track that is asked about: the first that is marked default, else the first. Neither a cover image nor a tile is one.

    A track of a single picture stands back (the still next to the sequence of an AVIF, a poster).
    """
    import av

    other = av.stream.Disposition.attached_pic | av.stream.Disposition.dependent
    tracks = [s for s in container.streams.video if not s.disposition & other and _readable(s)]
    return _first([s for s in tracks if s.frames != 1] or tracks)


def audio_track(container: InputContainer) -> Any | None:
    """The audio track that belongs to the video track: of the same programme, the first that is marked default, else the first.

    Tracks for the visually or hearing impaired and commentaries stand back.
    """
    import av

    tracks = [s for s in container.streams.audio if _readable(s)]
    video = video_track(container)
    if video is not None:
        tracks = [s for s in tracks if container.streams.best("video", related=s) == video] or tracks
    kinds = av.stream.Disposition
    special = kinds.visual_impaired | kinds.hearing_impaired | kinds.comment | kinds.descriptions
    plain = [s for s in tracks if not s.disposition & special]
    known = [s for s in plain or tracks if s.codec_context.sample_rate]
    return _first(known or plain or tracks)


def foreign_tracks(container: InputContainer) -> dict[str, str]:
    """Why a kind of track is missing though the file has one, by "the video track" and "the audio track"."""
    import av

    kinds = av.stream.Disposition
    found = {}
    for kind, chosen in (("video", video_track(container)), ("audio", audio_track(container))):
        tracks = [s for s in container.streams if s.type == kind and not s.disposition & kinds.attached_pic]
        if chosen is None and tracks:
            tiles = all(s.disposition & kinds.dependent for s in tracks)
            found[f"the {kind} track"] = IN_TILES if tiles else FOREIGN
    return found


def is_animated_webp(source: Source, container: InputContainer) -> bool:
    """Whether a picture is an animated WebP (RFC 9649, section 2.7.1): FFmpeg reads single pictures only."""
    if not container.format.name.startswith("webp"):
        return False
    with source.path.open("rb") as file:
        head = file.read(21)
    return head[12:16] == b"VP8X" and bool(head[20] & 2)


def _readable(stream: Any) -> bool:
    """Whether FFmpeg has a decoder for it, and its packets bear times in a unit."""
    return stream.codec_context is not None and bool(stream.time_base)


def _first(tracks: list[Any]) -> Any | None:
    import av

    marked = [s for s in tracks if s.disposition & av.stream.Disposition.default]
    return (marked or tracks or [None])[0]


def has_cover(container: InputContainer) -> bool:
    """Whether there is a cover image."""
    import av

    return any(s.disposition & av.stream.Disposition.attached_pic for s in container.streams.video)


def packets(container: InputContainer, *streams: Any) -> Iterator[Any]:
    """The packets of `streams` (of all, if none are named) in the order of the file. Damaged stretches are stepped over."""
    import av

    for _ in range(_DAMAGED_PACKETS):
        try:
            for packet in container.demux(*streams):
                if packet.size:  # the last, empty one only makes decoders drain
                    yield packet
            return
        except av.FFmpegError:
            continue
