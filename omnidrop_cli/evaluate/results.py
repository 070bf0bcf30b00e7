"""The results file: one JSON line per question and arm.

Knows: which key every row stands for. Does not know: how rows reach the disk (`omnidrop_cli/journal.py`), what a row means.
Failed rows are not done: another run tries them again and its row, being later, is the one that counts.
"""

from __future__ import annotations

import json
from pathlib import Path

from omnidrop_cli import fileio
from omnidrop_cli.errors import DatasetError
from omnidrop_cli.evaluate.items import SCHEMA, Row


def load(path: Path) -> dict[str, Row]:
    """Key to latest row; empty where there is no file. Raises `DatasetError` for a file that holds anything else."""
    if not path.exists():
        return {}
    rows: dict[str, Row] = {}
    with path.open("rb") as handle:
        for number, line in enumerate(handle, 1):
            row = decode(line)
            if row is not None:
                rows[row.key] = row
            elif line.endswith(b"\n") or not fileio.is_torn(line, Journal.head):
                raise _foreign(path, number)
    return rows


class Journal(fileio.JsonLines):
    """A results file open for appending. Raises as `JsonLines` does, `DatasetError` for a file that is not ours."""

    head = f'{{"schema": {SCHEMA}, "key": '.encode()

    def __init__(self, path: Path) -> None:
        self.rows: dict[str, Row] = {}
        super().__init__(path)

    def done(self, key: str) -> bool:
        """Whether an earlier row answered this, without an error."""
        return key in self.rows and self.rows[key].error is None

    def append(self, *rows: Row) -> None:
        """Write rows; all are on the disk when this returns. Waiting for the disk once, not row by row, is why there may be several."""
        self.write(*(row.to_json() for row in rows))
        self.rows.update({row.key: row for row in rows})

    def take(self, line: bytes) -> bool:
        row = decode(line)
        if row is not None:
            self.rows[row.key] = row
        return row is not None

    def foreign(self, number: int) -> DatasetError:
        return _foreign(self.path, number)


def decode(line: bytes) -> Row | None:
    """The row in a line, None where there is none."""
    try:
        return Row.from_json(json.loads(line))
    except (ValueError, AttributeError):
        return None


def _foreign(path: Path, number: int) -> DatasetError:
    return DatasetError(f"{path}, line {number}: not a result of `omnidrop evaluate`", "choose another file with -o")
