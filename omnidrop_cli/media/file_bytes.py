"""The bytes of a file by position, read as they are asked for.

Like a memory map, but a file that becomes shorter while it is read gives fewer bytes instead of ending the process (SIGBUS), and nothing
keeps others from renaming or removing it.
"""

from __future__ import annotations

from typing import BinaryIO

_WINDOW = 1 << 14
"""Bytes read at once. Headers that follow each other closely come from one read; headers far apart cost no more than a few pages."""


class FileBytes:
    """The bytes of a seekable `file`, with the length it has now."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size = file, file.seek(0, 2)
        self._start, self._window = 0, b""

    def __len__(self) -> int:
        return self._size

    def at(self, start: int, count: int) -> bytes:
        """`count` bytes from `start` on, fewer where the file ends before."""
        if start >= self._size:  # a damaged size may point farther than files can be
            return b""
        if not self._start <= start <= start + count <= self._start + len(self._window):
            self._file.seek(start)
            self._start, self._window = start, self._file.read(max(count, _WINDOW))
        return self._window[start - self._start : start - self._start + count]

    def find(self, pattern: bytes, start: int = 0) -> int:
        """The first position from `start` on where `pattern` stands; -1 where it does not."""
        overlap = len(pattern) - 1
        while start + len(pattern) <= self._size:
            piece = self.at(start, _WINDOW)
            found = piece.find(pattern)
            if found >= 0:
                return start + found
            if len(piece) <= overlap:  # the file is shorter than it was
                break
            start += len(piece) - overlap
        return -1
