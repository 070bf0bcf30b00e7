"""The file of answers: which question and clip every row stands for, and which keys are done.

A row is {"schema": 1, "batch": {"key", "id", "path", "size", "mtime_ns", "content"}, "media": {"asked"}, "question", ...} with an "answer"
or, where it failed, an "error". Where a key has several rows, the last one counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omnidrop_cli import jsonl
from omnidrop_cli.errors import OmnidropError, UsageError
from omnidrop_cli.jsonl import JsonlStore, RowFormat

Row = dict[str, Any]


def _parse(row: Row) -> Row:
    """The row itself. Raises `ValueError` where a field that is read later is missing or of the wrong type."""
    batch = jsonl.field(row, "batch", dict)
    for name in ("key", "path", "content"):
        jsonl.field(batch, name, str)
    for name in ("size", "mtime_ns"):
        jsonl.field(batch, name, int)
    jsonl.field(batch, "id", str, type(None))
    jsonl.field(jsonl.field(row, "media", dict), "asked", str)
    jsonl.field(row, "question", str)
    if "error" in row:
        jsonl.field(jsonl.field(row, "error", dict), "message", str)
    else:
        jsonl.field(row, "answer", str)
    return row


def _foreign(path: Path, number: int) -> OmnidropError:
    if number == 1:
        return UsageError(f"{path} exists and holds no answers of `omnidrop batch`", "choose another name for the output")
    return UsageError(f"{path}, line {number}: not a row of `omnidrop batch`", "the file was changed elsewhere; take that line out")


FORMAT: RowFormat[Row] = RowFormat(schema=1, mark="batch", head=b'{"schema": ', parse=_parse, foreign=_foreign)


@dataclass(frozen=True, slots=True)
class Known:
    """The keys that are done and the content ids of clips, read from a file of answers."""

    done: dict[str, bool] = field(default_factory=dict)
    """Key → whether its last row holds an answer (False: an error)."""
    contents: dict[tuple[str, int, int], str] = field(default_factory=dict)
    """(path, size, mtime_ns) → content id, of every clip in the file."""

    def note(self, row: Mapping[str, Any]) -> None:
        batch = row["batch"]
        self.done[batch["key"]] = "error" not in row
        self.contents[batch["path"], batch["size"], batch["mtime_ns"]] = batch["content"]


class AnswersFile(JsonlStore[Row]):
    """An answers file open for appending, and what is `known` from its rows. Raises as `JsonlStore` does."""

    def __init__(self, path: str | Path) -> None:
        self.known = Known()
        super().__init__(path, FORMAT, self.known.note)

    def append(self, *rows: Mapping[str, Any]) -> None:
        """Write rows and wait until they are on the disk."""
        super().append(*rows)
        for row in rows:
            self.known.note(row)


def read(path: str | Path) -> Iterator[Row]:
    """The row that counts of every key, in the order in which keys first appear. Holds one row at a time.

    Raises:
        UsageError: The file holds other lines.
        OmnidropError: The file cannot be read.
    """
    last = {row["batch"]["key"]: at for at, row in jsonl.read_rows(Path(path), FORMAT)}
    with open(path, "rb") as handle:
        for at in last.values():
            handle.seek(at)
            yield json.loads(handle.readline())


def look(path: str | Path) -> Known:
    """`Known` of a file, without opening it for writing; empty where there is no file. Raises as `read` does."""
    known = Known()
    if Path(path).exists():
        for _, row in jsonl.read_rows(Path(path), FORMAT):
            known.note(row)
    return known


def backup(path: str | Path) -> Path | None:
    """Rename an answers file to FILE.bak-N, so that a run can start over; None where there is no file."""
    return jsonl.backup(path, FORMAT)
