"""The file of answers: JSON lines, appended one by one, whole after any crash.

Knows: how a row reaches the disk (one write, then fsync), how a torn last line is mended, which keys are done, and that one process
writes at a time. Does not know: what a row says beyond its "batch" part.

A row is {"schema": 1, "batch": {"key", "id", "path", "size", "mtime_ns", "content"}, ...}; with an "error" in it, it failed.
Where a key has several rows, the last one counts.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from omnidrop_cli.errors import OmnidropError, UsageError
from omnidrop_cli.report.plain import escape_json

Row = dict[str, Any]

HEAD = b'{"schema": '
"""How every row begins: what tells a row cut short from a file that is not ours."""


_FIELDS = {"key", "id", "path", "size", "mtime_ns", "content"}


@dataclass(frozen=True, slots=True)
class Known:
    """What a file of answers tells about questions and clips."""

    done: dict[str, bool] = field(default_factory=dict)
    """Key → whether its last row holds an answer (False: an error)."""
    contents: dict[tuple[str, int, int], str] = field(default_factory=dict)
    """(path, size, mtime_ns) → content id, of every clip in the file."""

    def note(self, row: Mapping[str, Any]) -> None:
        batch = row["batch"]
        self.done[batch["key"]] = "error" not in row
        self.contents[batch["path"], batch["size"], batch["mtime_ns"]] = batch["content"]


class Journal:
    """An answers file open for appending, locked against other processes until closed."""

    def __init__(self, path: str | Path) -> None:
        """Opens or creates `path` and mends a torn last line.

        Raises `UsageError` where the file is not one of ours, is damaged, or another process writes to it; `OmnidropError` where the
        disk refuses.
        """
        self.path = Path(path)
        self.known = Known()
        self._fd = _open(self.path)
        try:
            _lock(self._fd, self.path)
            self._end = self._mend()
        except BaseException:
            os.close(self._fd)
            raise

    def append(self, row: Mapping[str, Any]) -> None:
        """Writes a row and waits until it is on the disk. Raises `OmnidropError`; the file then ends with the row before."""
        line = encode(row)
        try:
            written = os.write(self._fd, line)
            if written != len(line):
                raise OSError(28, "No space left on device")  # a short write has no errno of its own
            os.fsync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, self._end)
            raise OmnidropError(f"{self.path} cannot be written: {error.strerror}", "make room, then run the same command again") from error
        self._end += len(line)
        self.known.note(row)

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _mend(self) -> int:
        """Read every row, cut off a torn last one; the file's length afterwards."""
        end = 0
        with open(self.path, "rb") as handle:
            for number, line in enumerate(handle, 1):
                row = decode(line)
                if row is not None:
                    self.known.note(row)
                    end += len(line)
                    if not line.endswith(b"\n"):  # whole but for its end; reading on would find what is written here
                        os.write(self._fd, b"\n")
                        return end + 1
                elif not line.endswith(b"\n") and _is_torn(line):
                    os.ftruncate(self._fd, end)
                    os.fsync(self._fd)
                else:
                    raise _foreign(self.path, number)
        return end


def encode(row: Mapping[str, Any]) -> bytes:
    """A row as one line, harmless on a terminal, and UTF-8 whatever bytes a file name holds."""
    line = escape_json(json.dumps(row, ensure_ascii=False, allow_nan=False)).encode()
    if not line.startswith(HEAD):
        raise ValueError("a row begins with its schema")
    return line + b"\n"


def decode(line: bytes) -> Row | None:
    """The row in a line, None where there is none."""
    try:
        row = json.loads(line)
        return row if row["batch"].keys() >= _FIELDS else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def read(path: str | Path) -> Iterator[Row]:
    """The row that counts of every key, in the order in which keys first appear. Holds one row at a time.

    Raises `UsageError` for a file that is not ours, `OmnidropError` where it cannot be read.
    """
    last: dict[str, int] = {}
    try:
        with open(path, "rb") as handle:
            at = 0
            for number, line in enumerate(handle, 1):
                row = decode(line)
                if row is not None:
                    last[row["batch"]["key"]] = at
                elif line.endswith(b"\n") or not _is_torn(line):
                    raise _foreign(Path(path), number)
                at += len(line)
            for at in last.values():
                handle.seek(at)
                yield json.loads(handle.readline())
    except OSError as error:
        raise OmnidropError(f"{path} cannot be read: {error.strerror}", "check the path and its permissions") from error


def look(path: str | Path) -> Known:
    """What a file tells, without opening it for writing; nothing where there is none. Raises as `read` does."""
    known = Known()
    if Path(path).exists():
        for row in read(path):
            known.note(row)
    return known


def set_aside(path: str | Path) -> Path | None:
    """Renames an answers file to the first free PATH.old-N, so that a run can begin anew; None where there is no file."""
    path = Path(path)
    if not path.exists():
        return None
    with Journal(path):  # refuses a file in use, and a file that is not ours
        number = 1
        while (target := path.with_name(f"{path.name}.old-{number}")).exists():
            number += 1
        path.rename(target)
    return target


def _is_torn(line: bytes) -> bool:
    """What a crash leaves of a last row: its beginning, or zeros where the length reached the disk before the text."""
    return line[: len(HEAD)] == HEAD[: len(line)] or not line.strip(b"\0")


def _foreign(path: Path, number: int) -> UsageError:
    if number == 1:
        return UsageError(f"{path} exists and holds no answers of `omnidrop batch`", "choose another name for the output")
    return UsageError(f"{path}, line {number}: not a row of `omnidrop batch`", "the file was changed elsewhere; take that line out")


def _open(path: Path) -> int:
    if path.is_dir():
        raise UsageError(f"{path} is a folder", f"name a file for the answers, such as {path / 'answers.jsonl'}")
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
