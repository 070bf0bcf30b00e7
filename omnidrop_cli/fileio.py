"""A file of JSON lines that grows row by row and is whole after any crash.

Knows: how rows reach the disk (one write, then fsync), how a torn last line is mended, and that one process writes at a time. Does not
know what a row says: `batch` and `evaluate` each have a journal of their own kind.
"""

from __future__ import annotations

import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

from omnidrop_cli.errors import OmnidropError, UsageError
from omnidrop_cli.report.text import escape_json

if TYPE_CHECKING:
    from typing_extensions import Self


class JsonLines(ABC):
    """A file open for appending, locked against other processes until closed. A kind of journal says which lines are its own."""

    head: ClassVar[bytes]
    """How every line begins: what tells a line cut short from the end of somebody else's file."""

    def __init__(self, path: str | Path) -> None:
        """Opens or creates `path`, reads every row and mends a torn last line.

        Raises what `foreign` gives where the file is not one of this kind or is damaged, `UsageError` where another process writes to
        it, `OmnidropError` where the disk refuses. Such files stay as they are.
        """
        self.path = Path(path)
        self._fd = _open(self.path)
        try:
            _lock(self._fd, self.path)
            self._end = self._mend()
        except BaseException:
            os.close(self._fd)
            raise

    @abstractmethod
    def take(self, line: bytes) -> bool:
        """Note the row in a line of the file; False where there is none of this kind."""

    @abstractmethod
    def foreign(self, number: int) -> OmnidropError:
        """What to say of line `number`, which holds no row of this kind."""

    def write(self, *rows: Mapping[str, Any]) -> None:
        """Writes rows and waits until all are on the disk. Raises `OmnidropError`; the file then ends with the row before."""
        block = b"".join(encode(row, self.head) for row in rows)
        try:
            if os.write(self._fd, block) != len(block):
                raise OSError(28, "No space left on device")  # a short write has no errno of its own
            os.fsync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, self._end)
            raise OmnidropError(f"{self.path} cannot be written: {error.strerror}", "make room, then run the same command again") from error
        self._end += len(block)

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _mend(self) -> int:
        """Read every row, cut off a torn last one; the file's length afterwards."""
        end = 0
        with open(self.path, "rb") as handle:
            for number, line in enumerate(handle, 1):
                if self.take(line):
                    end += len(line)
                    if not line.endswith(b"\n"):  # whole but for its end; reading on would find what is written here
                        os.write(self._fd, b"\n")
                        return end + 1
                elif not line.endswith(b"\n") and is_torn(line, self.head):
                    os.ftruncate(self._fd, end)
                    os.fsync(self._fd)
                else:
                    raise self.foreign(number)
        return end


def encode(row: Mapping[str, Any], head: bytes) -> bytes:
    """A row as one line, harmless on a terminal, and UTF-8 whatever bytes a file name holds."""
    line = escape_json(json.dumps(row, ensure_ascii=False, allow_nan=False)).encode()
    if not line.startswith(head):
        raise ValueError(f"a row begins with its schema: {head.decode()}")
    return line + b"\n"


def is_torn(line: bytes, head: bytes) -> bool:
    """What a crash leaves of a last row: its beginning, or zeros where the length reached the disk before the text."""
    return line[: len(head)] == head[: len(line)] or not line.strip(b"\0")


def _open(path: Path) -> int:
    if path.is_dir():
        raise UsageError(f"{path} is a folder", f"name a file in it, such as {path / 'answers.jsonl'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        _sync_folder(path.parent)
    except OSError as error:
        raise OmnidropError(f"{path} cannot be opened for writing: {error.strerror}", "choose another place for the output") from error
    return descriptor


def _sync_folder(folder: Path) -> None:
    """A new file survives a power cut only once its folder is on the disk. Some file systems cannot; they keep their own promises."""
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        with suppress(OSError):
            os.fsync(descriptor)
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    """Held by the open file, so the system drops it however the process ends."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 1 << 40, os.SEEK_SET)  # a byte nobody reads: Windows locks forbid reading
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise UsageError(f"another process is writing to {path}", "wait for it, or give this run an output file of its own") from error
