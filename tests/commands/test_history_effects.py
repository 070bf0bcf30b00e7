"""Every option of `history`'s commands changes what is listed, shown, asked again or forgotten.

`python -m tests.benchmarks.break_flags history` forces each option to its default and reports the tests that notice.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from omnidrop_cli import history, paths
from tests.commands.effects import COMMON_ELSEWHERE, Row, Run, check_complete, err, error, out
from tests.commands.fake_pipeline import FakePipeline
from tests.commands.running import Done

LS, SHOW, RERUN, CLEAN = ("ls",), ("show", "1"), ("rerun", "1"), ("clean",)


def files(_: Done) -> object:
    return os.listdir()


def kept(_: Done) -> object:
    return [entry.id for entry in history.entries()]


EFFECTS = (
    Row("search", ("red",), out, LS),
    Row("last", ("1",), out, LS),
    Row("json", (), out, SHOW),
    Row("compare", (), err, (*RERUN, "--table")),
    Row("table", ("--no-table",), err, RERUN),
    Row("output", ("a.txt",), files, RERUN),
    Row("history", (), kept, RERUN),
    Row("quiet", (), err, SHOW),
    Row("verbose", (), err, RERUN),
    Row("older-than", ("30d",), kept, (*CLEAN, "--yes")),
    Row("yes", (), error, CLEAN),
)

ELSEWHERE: Mapping[str, str] = {
    **COMMON_ELSEWHERE,
    "stream": "tests/commands/test_output.py; rerun and ask answer by the same function",
}
"""Options whose effect is tested elsewhere."""


@pytest.fixture
def answers(omnidrop: Run, pipeline: FakePipeline) -> Path:
    """A copy of a history of three answers, the first one of last year."""
    for question in ("Is it red?", "Is it blue?", "Is it red now?"):
        assert omnidrop("ask", "clip.mp4", question, "--history").code == 0
    with sqlite3.connect(paths.history()) as database:
        database.execute("UPDATE answers SET asked_at = ? WHERE id = 1", (time.time() - 365 * 86400,))
    database.close()
    return Path(shutil.copy(paths.history(), paths.history().with_suffix(".copy")))


@pytest.mark.parametrize("row", EFFECTS, ids=lambda row: row.flag)
def test_an_option_has_its_effect(omnidrop: Run, answers: Path, row: Row) -> None:
    found = []
    for flags in ((), row.words):
        shutil.copy(answers, paths.history())
        found.append(row.effect(omnidrop("history", *row.given, *flags)))
    assert found[0] != found[1]


def test_every_option_is_in_a_table() -> None:
    check_complete("history", EFFECTS, ELSEWHERE)
