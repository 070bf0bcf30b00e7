"""The results file: one JSON line per question and arm, safe against being killed at any moment.

Knows: appending, locking, and reading back what an earlier run wrote. Does not know: what a row means.
A line counts once its line break is on the disk; a torn last line is cut off. Failed rows are not done: another run tries them again
and its row, being later, is the one that counts.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import IO

from omnidrop_cli.errors import DatasetError, UsageError
from omnidrop_cli.evaluate.records import Row


def load(path: Path) -> dict[str, Row]:
    """Key to latest row; empty where there is no file. Raises `DatasetError` for a file that holds anything else."""
    if not path.exists():
        return {}
    rows: dict[str, Row] = {}
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            row = Row.from_json(json.loads(line))
        except (ValueError, AttributeError) as problem:
            raise DatasetError(
                f"{path}, line {number}: not a result of `omnidrop evaluate` ({problem})", "choose another file with -o"
            ) from problem
        rows[row.key] = row
    return rows


class Journal:
    """An open results file. Use as a context manager; one process at a time. Raises `UsageError`, `DatasetError` on opening."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self.rows: dict[str, Row] = {}

    def __enter__(self) -> Journal:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab")
        except OSError as problem:
            raise UsageError(f"{self.path}: cannot be written ({problem.strerror})", "choose another file with -o") from problem
        try:
            _lock(self._file, self.path)
            self.rows = load(self.path)
            whole = self.path.read_bytes().rfind(b"\n") + 1
            self._file.truncate(whole)
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def done(self, key: str) -> bool:
        """Whether an earlier row answered this, without an error."""
        return key in self.rows and self.rows[key].error is None

    def append(self, row: Row) -> None:
        """Write a row; it is on the disk when this returns."""
        if self._file is None:
            raise ValueError("the results file is not open")
        self._file.write(json.dumps(row.to_json(), ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.rows[row.key] = row


def _lock(file: IO[bytes], path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: no advisory lock there, and two runs on one file are then the user's to avoid
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        raise UsageError(f"{path}: another run is writing to it", "wait for it, or choose another file with -o") from problem
