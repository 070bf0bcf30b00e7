"""Every option of `ask` changes what runs: from the command line to the effect, on a real clip with nano.

`python -m tests.benchmarks.break_flags` forces each option to its default and reports the tests that notice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from omnidrop_cli import paths
from tests.commands.effects import ANSWERING, READING_ELSEWHERE, Row, Run, check_complete, kept

EFFECTS = (
    *ANSWERING,
    Row("method", ("random",), kept, ("--kept",)),
    Row("seed", ("5",), kept, ("--kept", "--method", "random")),
    Row("kept", (), lambda report: "kept" in report),
    Row("compare", (), lambda report: report["kind"]),
    Row("repeat", ("2",), lambda report: len(report["repeats_timing_s"]["pruned"]), ("--compare",)),
)

ELSEWHERE: Mapping[str, str] = {
    **READING_ELSEWHERE,
    "question": "tests/commands/test_ask.py: test_q_is_the_question",
    "model": "tests/test_public_api.py; every test here names nano",
    "device": "tests/model/test_load.py",
    "attn": "tests/model/test_load.py",
    "stream": "tests/commands/test_output.py",
    "table": "tests/commands/test_ask.py",
    "history": "tests/commands/test_history.py: test_nothing_is_kept_unless_asked_for",
    "json": "every test here reads it",
    "output": "tests/commands/test_ask.py: test_output_goes_into_a_file",
    "quiet": "tests/commands/test_ask.py: test_quiet_says_nothing",
    "verbose": "tests/commands/test_ask.py",
}
"""Options whose effect cannot be seen in nano's JSON, and where it is tested."""


@pytest.fixture(scope="module")
def memory() -> dict[tuple[str, ...], dict[str, Any]]:
    """Reports by their command line: many rows are compared with the same plain command."""
    return {}


def _ask(omnidrop: Run, memory: dict[tuple[str, ...], dict[str, Any]], flags: Sequence[str]) -> dict[str, Any]:
    words = ("ask", "demo", "What is said?", "--model", "nano", "--json", *flags)
    if words not in memory:
        done = omnidrop(*words)
        assert done.error is None, done.error
        memory[words] = json.loads(done.out)
    return memory[words]


@pytest.mark.parametrize("row", EFFECTS, ids=lambda row: row.flag)
def test_an_option_has_its_effect(omnidrop: Run, memory: dict[tuple[str, ...], dict[str, Any]], row: Row) -> None:
    assert row.effect(_ask(omnidrop, memory, (*row.given, *row.words))) != row.effect(_ask(omnidrop, memory, row.given))


def test_encoder_outputs_are_kept_on_disk_unless_refused(omnidrop: Run) -> None:
    words = ("ask", "demo", "What is said?", "--model", "nano", "--json")
    assert omnidrop(*words, "--no-feature-cache").error is None
    assert not _files(paths.features())
    assert omnidrop(*words).error is None
    assert _files(paths.features())


def test_offline_reaches_what_fetches(omnidrop: Run) -> None:
    done = omnidrop("ask", "https://example.org/clip.mp4", "what?", "--model", "nano", "--offline")
    assert "offline" in str(done.error)


def test_every_option_is_in_a_table() -> None:
    apart = {"feature-cache": "the tests above", "offline": "the tests above"}
    check_complete("ask", EFFECTS, {**ELSEWHERE, **apart})


def _files(folder: Path) -> list[str]:
    return [name for _, _, names in os.walk(folder) for name in names]
