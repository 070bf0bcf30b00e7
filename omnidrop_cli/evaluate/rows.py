"""The results file: one JSON line per question and arm, safe against being killed at any moment.

Knows: appending, locking, and reading back what an earlier run wrote. Does not know: what a row means.
A line counts once its line break is on the disk; a torn last line is cut off. Failed rows are not done: another run tries them again
and its row, being later, is the one that counts.
"""

from __future__ import annotations

import json
import os
from io import FileIO
from pathlib import Path
from types import TracebackType

from omnidrop_cli.errors import DatasetError, OmnidropError, UsageError
from omnidrop_cli.evaluate.records import SCHEMA, Row

HEAD = f'{{"schema": {SCHEMA}, "key": '.encode()
"""How every line begins: tells a torn line of ours from the end of somebody else's file."""


def load(path: Path) -> dict[str, Row]:
    """Key to latest row; empty where there is no file. Raises `DatasetError` for a file that holds anything else."""
    return _parse(path, path.read_bytes())[0] if path.exists() else {}


class Journal:
    """A results file open for appending. Use as a context manager; one process at a time."""

    def __init__(self, path: Path) -> None:
        """Open or create `path` and cut off a torn last line. Raises `UsageError`, `DatasetError`; other files stay as they are."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = FileIO(path, "ab+")
        except OSError as problem:
            raise UsageError(f"{path}: cannot be written ({problem.strerror})", "choose another file with -o") from problem
        try:
            _lock(self._file, path)
            self.rows, self._end = _parse(path, path.read_bytes())
            self._file.truncate(self._end)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def done(self, key: str) -> bool:
        """Whether an earlier row answered this, without an error."""
        return key in self.rows and self.rows[key].error is None

    def append(self, row: Row) -> None:
        """Write a row; it is on the disk when this returns. Raises `OmnidropError`; the file then ends with the row before."""
        line = json.dumps(row.to_json(), ensure_ascii=False).encode("utf-8", errors="backslashreplace") + b"\n"
        try:
            if self._file.write(line) != len(line):
                raise OSError(28, "No space left on device")  # a short write has no errno of its own
            os.fsync(self._file.fileno())
        except OSError as problem:
            self._file.truncate(self._end)
            raise OmnidropError(
                f"{self.path}: cannot be written ({problem.strerror})", "make room, then run the same command again"
            ) from problem
        self._end += len(line)
        self.rows[row.key] = row


def _parse(path: Path, content: bytes) -> tuple[dict[str, Row], int]:
    """Rows by key, and the length of the whole lines."""
    rows: dict[str, Row] = {}
    *lines, tail = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            row = Row.from_json(json.loads(line))
        except (ValueError, AttributeError) as problem:
            raise _foreign(path, number) from problem
        rows[row.key] = row
    if tail[: len(HEAD)] != HEAD[: len(tail)]:
        raise _foreign(path, len(lines) + 1)
    return rows, len(content) - len(tail)


def _foreign(path: Path, number: int) -> DatasetError:
    return DatasetError(f"{path}, line {number}: not a result of `omnidrop evaluate`", "choose another file with -o")


def _lock(file: FileIO, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows has no advisory locks; keeping two runs apart is the user's part there
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        raise UsageError(f"{path}: another run is writing to it", "wait for it, or choose another file with -o") from problem
