"""The results file: one JSON line per question and method.

Rows in, rows by key out. Failed rows are not done: another run tries them again, and its row, being later, is the one that counts.
"""

from __future__ import annotations

from pathlib import Path

from omnidrop_cli import jsonl
from omnidrop_cli.errors import DatasetError
from omnidrop_cli.evaluate.items import SCHEMA, Row
from omnidrop_cli.jsonl import JsonlStore, RowFormat


def _foreign(path: Path, number: int) -> DatasetError:
    return DatasetError(f"{path}, line {number}: not a result of `omnidrop evaluate`", "choose another file with -o")


FORMAT: RowFormat[Row] = RowFormat(SCHEMA, "benchmark", b'{"schema": ', Row.from_json, _foreign, older=(1,))


def load(path: Path) -> dict[str, Row]:
    """Key to latest row; empty where there is no file. Raises `DatasetError` for a file that holds anything else."""
    return {row.key: row for _, row in jsonl.read_rows(path, FORMAT)} if path.exists() else {}


class ResultsFile(JsonlStore[Row]):
    """A results file open for appending, and its latest `rows` by key. Raises as `JsonlStore` does."""

    def __init__(self, path: Path) -> None:
        self.rows: dict[str, Row] = {}
        super().__init__(path, FORMAT, self._note)

    def done(self, key: str) -> bool:
        """Whether an earlier row answered this, without an error."""
        return key in self.rows and self.rows[key].error is None

    def add(self, *rows: Row) -> None:
        """Write rows; all are on the disk when this returns. Waiting for the disk once, not row by row, is why there may be several."""
        self.append(*(row.to_json() for row in rows))
        for row in rows:
            self._note(row)

    def _note(self, row: Row) -> None:
        self.rows[row.key] = row
