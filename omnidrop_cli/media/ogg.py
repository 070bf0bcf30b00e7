"""Chained Ogg files: where each link begins, and a link as a file of its own.

An Ogg file may be several files one after another (RFC 3533, section 4): recordings of web radio, joined voice messages. FFmpeg reads
them as one, but takes header packets of later links for content, keeps the first link's clock rate, and stops at a change of the sample
rate. Opened one by one, the links are ordinary files.
"""

from __future__ import annotations

import io
import mmap
from typing import BinaryIO

_PAGE = b"OggS"
_HEADER = 27
"""Bytes of a page header before its segment table."""

_FIRST_PAGE = 2
"""Flag of a page that opens a logical stream."""

_MAX_LINKS = 4096


def links(file: BinaryIO) -> tuple[tuple[int, int], ...]:
    """(first byte, end) of every link. A link begins at an opening page that follows a page of content."""
    starts: list[int] = []
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        size, at, content = len(data), data.find(_PAGE), True
        while 0 <= at <= size - _HEADER and len(starts) < _MAX_LINKS:
            segments = data[at + 26]
            opening = bool(data[at + 5] & _FIRST_PAGE) and data[at + 18 : at + 22] == bytes(4)  # with sequence number 0
            if opening and content:
                starts.append(at)
            content = not opening
            behind = at + _HEADER + segments + sum(data[at + _HEADER : at + _HEADER + segments])
            # Behind a damaged page the next one is searched for.
            at = behind if data[behind : behind + 4] == _PAGE else data.find(_PAGE, at + 4)
    if not starts:
        return ((0, size),)
    starts[0] = 0
    return tuple(zip(starts, [*starts[1:], size], strict=True))


class FileRange(io.RawIOBase):
    """The bytes [start, end) of a file, as a file."""

    def __init__(self, path: str, start: int, end: int) -> None:
        super().__init__()
        self._file = open(path, "rb")  # noqa: SIM115  # closed by `close`
        self._start, self._end = start, end
        self._file.seek(start)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._end - self._file.tell())
        return self._file.read(left if size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: self._start, io.SEEK_CUR: self._file.tell(), io.SEEK_END: self._end}[whence]
        return self._file.seek(max(self._start, base + offset)) - self._start

    def tell(self) -> int:
        return self._file.tell() - self._start

    def close(self) -> None:
        self._file.close()
        super().close()
