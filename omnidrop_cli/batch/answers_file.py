"""The file of answers: which question and clip every row stands for, and which keys are done.

Knows: a row's "batch" part. Does not know: how rows reach the disk (`omnidrop_cli/journal.py`), what else a row says.

A row is {"schema": 1, "batch": {"key", "id", "path", "size", "mtime_ns", "content"}, ...}; with an "error" in it, it failed.
Where a key has several rows, the last one counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omnidrop_cli import fileio
from omnidrop_cli.errors import OmnidropError, UsageError

Row = dict[str, Any]

HEAD = b'{"schema": '
"""How every row begins."""


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


class Journal(fileio.JsonLines):
    """An answers file open for appending. Raises as `JsonLines` does, `UsageError` for a file that is not ours."""

    head = HEAD

    def __init__(self, path: str | Path) -> None:
        self.known = Known()
        super().__init__(path)

    def append(self, row: Mapping[str, Any]) -> None:
        """Writes a row and waits until it is on the disk."""
        self.write(row)
        self.known.note(row)

    def take(self, line: bytes) -> bool:
        row = decode(line)
        if row is not None:
            self.known.note(row)
        return row is not None

    def foreign(self, number: int) -> OmnidropError:
        return _foreign(self.path, number)


def encode(row: Mapping[str, Any]) -> bytes:
    """A row as the line that holds it."""
    return fileio.encode(row, HEAD)


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
                elif line.endswith(b"\n") or not fileio.is_torn(line, HEAD):
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


def _foreign(path: Path, number: int) -> UsageError:
    if number == 1:
        return UsageError(f"{path} exists and holds no answers of `omnidrop batch`", "choose another name for the output")
    return UsageError(f"{path}, line {number}: not a row of `omnidrop batch`", "the file was changed elsewhere; take that line out")
