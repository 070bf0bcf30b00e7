"""An answers file as a table for a spreadsheet or a page for a reader.

Input: rows. Output: pieces of CSV or Markdown, one row at a time, so that a million of them need no more memory than one. Answers and
file names are untrusted text: no formula and no markup in them takes effect.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidrop_cli.errors import UsageError
from omnidrop_cli.report.numbers import percent
from omnidrop_cli.report.text import clean, one_line

if TYPE_CHECKING:
    from omnidrop_cli.batch.answers_file import Row

COLUMNS: dict[str, Callable[[Row], Any]] = {
    "id": lambda row: _of(row, "batch", "id"),
    "media": lambda row: row["media"]["asked"],
    "question": lambda row: row["question"],
    "answer": lambda row: row.get("answer"),
    "error": lambda row: row["error"]["message"] if "error" in row else None,
    "start_s": lambda row: _of(row, "media", "start_s"),
    "used_s": lambda row: _of(row, "media", "used_s"),
    "model": lambda row: _of(row, "model", "name"),
    "quant": lambda row: _of(row, "model", "quant"),
    "method": lambda row: _of(row, "pruning", "method"),
    "retention_after": lambda row: _of(row, "pruning", "retention_after"),
    "prompt_tokens": lambda row: _of(row, "tokens", "prompt", "total"),
    "generated_tokens": lambda row: _of(row, "tokens", "generated"),
    "finish_reason": lambda row: row.get("finish_reason"),
    "total_s": lambda row: _of(row, "timing_s", "total"),
}
"""The columns of a CSV export, and where a row keeps each."""


Writer = Callable[[Iterable["Row"]], Iterator[str]]
"""Rows in, the text of a file in pieces out."""


def writer_for(path: Path) -> Writer:
    """What turns rows into the text of `path`, by its suffix. Raises `UsageError` for a suffix that is neither .csv nor .md."""
    writers = {".csv": to_csv, ".md": to_markdown}
    if path.suffix.lower() not in writers:
        raise UsageError(f"{path}: the format of an export is chosen by its suffix", "end the name in .csv or .md")
    return writers[path.suffix.lower()]


def to_csv(rows: Iterable[Row]) -> Iterator[str]:
    """A header and a line per row, in pieces."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(value(row)) for value in COLUMNS.values()])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def to_markdown(rows: Iterable[Row]) -> Iterator[str]:
    """A heading per clip, then questions and answers, in pieces."""
    heading = None
    yield "# Answers\n"
    for row in rows:
        if row["media"]["asked"] != heading:
            heading = row["media"]["asked"]
            yield f"\n## {_inert(one_line(heading))}\n"
        yield f"\n**{_inert(one_line(row['question']))}**\n\n"
        if "error" in row:
            yield f"*Failed: {_inert(one_line(row['error']['message']))}*\n"
        else:
            yield "".join(f"> {_inert(line)}\n" for line in clean(row["answer"]).splitlines() or [""])
            yield f"\n*{_inert(one_line(_made(row)))}*\n"


def _made(row: Row) -> str:
    """How an answer was made: method, share kept, model, time, and whether it was cut."""
    retention, seconds = _number(row, "pruning", "retention_after"), _number(row, "timing_s", "total")
    parts = [str(_of(row, "pruning", "method")), *([f"{percent(retention)} kept"] if retention is not None else [])]
    parts += [str(_of(row, "model", "name")), *([f"{seconds:.1f} s"] if seconds is not None else [])]
    parts += ["cut at its maximum length"] if row.get("finish_reason") == "length" else []
    return ", ".join(parts)


def _escaped_start(match: re.Match[str]) -> str:
    indent, mark = match.groups()
    return f"{indent}{mark}\\" if mark[0].isdecimal() else f"{indent}\\{mark}"


def _of(row: Row, *names: str) -> Any:
    """A nested field; None in the row of a failure, which has few."""
    value: Any = row
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _number(row: Row, *names: str) -> float | None:
    """A nested number; None where there is none: the file may have been changed elsewhere."""
    value = _of(row, *names)
    return value if isinstance(value, int | float) else None


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets an apostrophe before it, as spreadsheets write it themselves (OWASP)."""
    if not isinstance(value, str):
        return value
    text = clean(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(\.\d+)?", text) is not None


def _inert(text: str) -> str:
    """One line of text that Markdown shows as it is: no markup inside, no list or rule at its beginning."""
    text = re.sub(r"([\\`*_\[\]#|<>~&])", r"\\\1", text)
    return re.sub(r"^(\s*)([-+=]|\d+(?=[.)](?:\s|$)))", _escaped_start, text)
