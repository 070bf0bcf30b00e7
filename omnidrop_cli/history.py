"""Questions and their answers, kept in an SQLite file where the user asks for it.

Several processes may write at once: each write is one transaction, and a writer waits for the others. The file is the user's alone.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnidrop_cli import paths
from omnidrop_cli.errors import OmnidropError, UsageError
from omnidrop_cli.jsonl import parse_json

VERSION = 1
"""Version of the table, in the file's `user_version`."""

WAIT_S = 30.0
"""How long a writer waits for others."""

_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
    id INTEGER PRIMARY KEY AUTOINCREMENT, asked_at REAL NOT NULL, media TEXT NOT NULL, earlier_turns INTEGER NOT NULL,
    question TEXT NOT NULL, answer TEXT NOT NULL, report TEXT NOT NULL)
"""

_COLUMNS = "id, asked_at, media, earlier_turns, question, answer, report"


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """An answer of earlier.

    Attributes:
        asked_at: Unix time.
        media: An absolute path, an address, or the name of a bundled clip; of several clips, the first.
        earlier_turns: Questions of the same chat that the model saw before this one.
        report: As `report.json.to_dict` wrote it.
    """

    id: int
    asked_at: float
    media: str
    earlier_turns: int
    question: str
    answer: str
    report: Mapping[str, Any]

    @property
    def all_media(self) -> tuple[str, ...]:
        """What was asked about: `media`, and the question's further clips."""
        return (self.media, *(one["asked"] for one in self.report.get("more_media", ())))


def add(report: Mapping[str, Any], earlier_turns: int = 0) -> int:
    """Keep a report; its number. Raises `OmnidropError`."""
    more = [{**one, "asked": _lasting(one["asked"])} for one in report.get("more_media", ())]
    row = (
        time.time(),
        _encoded(_lasting(report["media"]["asked"])),
        earlier_turns,
        report["question"],
        report["answer"],
        json.dumps({**report, "more_media": more}),
    )
    with _opened() as base:
        statement = "INSERT INTO answers (asked_at, media, earlier_turns, question, answer, report) VALUES (?, CAST(? AS TEXT), ?, ?, ?, ?)"
        return int(base.execute(statement, row).lastrowid or 0)


def entries(*, search: str = "", last: int | None = None) -> list[HistoryEntry]:
    """The last answers, oldest first, whose clip, question or answer contains `search`. Raises `OmnidropError`."""
    if not paths.history().exists():
        return []
    wanted = f"%{search.translate({ord(char): chr(92) + char for char in chr(92) + '%_'})}%"
    text = f"SELECT {_COLUMNS} FROM answers WHERE media || char(10) || question || char(10) || answer LIKE CAST(? AS TEXT) ESCAPE '\\'"
    with _opened() as base:
        rows = base.execute(f"{text} ORDER BY id DESC LIMIT ?", (_encoded(wanted), -1 if last is None else last)).fetchall()
    return [_entry(row) for row in reversed(rows)]


def entry(number: int) -> HistoryEntry:
    """The answer of that number. Raises `UsageError` where there is none, `OmnidropError`."""
    if paths.history().exists():
        with _opened() as base:
            row = base.execute(f"SELECT {_COLUMNS} FROM answers WHERE id = ?", (number,)).fetchone()
        if row is not None:
            return _entry(row)
    raise UsageError(f"there is no answer {number} in the history", "`omnidrop history ls` lists them")


def remove(numbers: Sequence[int]) -> None:
    """Forget answers; their text is overwritten. Raises `OmnidropError`."""
    with _opened() as base:
        base.execute("PRAGMA secure_delete = ON")
        base.executemany("DELETE FROM answers WHERE id = ?", [(number,) for number in numbers])


# ---------------------------------------------------------------- the file


@contextmanager
def _opened() -> Iterator[sqlite3.Connection]:
    """The file, made for the user alone where there is none; the block is one transaction."""
    path = paths.history()
    base = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite would make it readable for all; its journals take its mode
        base = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
        base.text_factory = lambda content: content.decode("utf-8", "surrogatepass")
        base.execute("BEGIN IMMEDIATE")
        (version,) = base.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise OmnidropError(f"{path} was written by a newer omnidrop", "update omnidrop-cli")
        base.execute(_TABLE)
        base.execute(f"PRAGMA user_version = {VERSION}")
        yield base
        base.execute("COMMIT")
    except sqlite3.OperationalError as error:
        raise OmnidropError(f"the history {path} cannot be used: {error}", "check its permissions and the free disk space") from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise OmnidropError(f"the history {path} is damaged: {error}", "move the file away; a new one is made") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OmnidropError(f"the history {path} cannot be used: {reason}", "check its permissions") from error
    finally:
        if base is not None:
            base.close()  # what was not committed is undone


def _entry(row: Sequence[Any]) -> HistoryEntry:
    try:
        number, asked_at, media, earlier_turns, question, answer, report = row
        return HistoryEntry(number, asked_at, media, earlier_turns, question, answer, parse_json(report))
    except ValueError as error:
        raise OmnidropError(f"answer {row[0]} in {paths.history()} is damaged: {error}", "`omnidrop history clean` forgets it") from error


def _encoded(text: str) -> bytes:
    """Text as SQLite's own encoding; file names may hold bytes that are not text."""
    return text.encode("utf-8", "surrogatepass")


def _lasting(media: str) -> str:
    """A file's absolute path, so that it can be asked again from any folder; every other name as it is."""
    return str(Path(media).absolute()) if Path(media).exists() else media
