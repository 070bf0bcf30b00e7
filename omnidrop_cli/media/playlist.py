"""HLS playlists on this disk (RFC 8216): whether one is still being written, and the files that it names, opened as if it were complete.

FFmpeg waits for more segments where a playlist has no end, for its target duration at every opening. Given an end, it reads what is there.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import BinaryIO

MARK = b"#EXTM3U"
_END = b"\n#EXT-X-ENDLIST\n"
_VARIANT = b"#EXT-X-STREAM-INF"
_LARGEST = 1 << 24
_RENDITION = re.compile(r'#EXT-X-(?:MEDIA|I-FRAME-STREAM-INF):.*URI="([^"]+)"')


def is_open(path: Path) -> bool:
    """Whether a playlist, or one that it names, lacks its end, as one that is still being written does. Raises `OSError`."""
    with path.open("rb") as file:
        text = file.read(_LARGEST)
    if _VARIANT not in text:
        return _lacks_end(text)
    return any(_lacks_end(_start_of(path.parent / name)) for name in _named(text.decode("utf-8", "replace")))


def is_nested(path: Path) -> bool:
    """Whether a playlist of playlists names another such one, or itself, which RFC 8216 (4.3.4.2) forbids. Raises `OSError`.

    FFmpeg follows one that names itself until the memory is full.
    """
    with path.open("rb") as file:
        text = file.read(_LARGEST)
    if _VARIANT not in text:
        return False
    names = [re.sub(r"^file:(//(?=/))?", "", name) for name in _named(text.decode("utf-8", "replace"))]
    return any(name.startswith(("data:", "crypto")) or _VARIANT in _start_of(path.parent / name) for name in names)


def open_file(url: str, flags: int, options: dict[str, str]) -> BinaryIO:
    """What PyAV calls (`io_open`) for every file of a playlist: the file, a playlist without an end with one.

    Raises:
        OSError: The file cannot be read, or is none of this disk.
    """
    path = url.removeprefix("file:")
    if re.match(r"[a-zA-Z][\w.+-]+:", path) or path.startswith("crypto+"):  # two letters at least: a drive of Windows is no protocol
        raise PermissionError(f"{url} is not a file of this disk, or encrypted")
    with open(path, "rb") as file:
        head = file.read(len(MARK))
        if head == MARK and _lacks_end(text := head + file.read(_LARGEST)):
            return io.BytesIO(text + _END)
    return open(path, "rb")  # closed by PyAV


def _named(text: str) -> list[str]:
    """The media playlists that a master playlist names."""
    lines = (line.strip() for line in text.splitlines())
    return [*_RENDITION.findall(text), *(line for line in lines if line and not line.startswith("#"))]


def _start_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST)
    except (OSError, ValueError):  # FFmpeg says what is wrong with it, if it is needed
        return b""


def _lacks_end(text: bytes) -> bool:
    return b"#EXTINF" in text and b"#EXT-X-ENDLIST" not in text
