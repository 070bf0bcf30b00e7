"""Every option of `chat` changes what runs: from the command line to the effect, on a real clip with nano.

`python -m tests.benchmarks.break_flags chat` forces each option to its default and reports the tests that notice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from omnidrop_cli import paths
from omnidrop_cli.commands import chat
from tests.commands.effects import ANSWERING, READING_ELSEWHERE, Row, Run, check_complete, generated, leaving
from tests.commands.running import Done

SCRIPT = "What is said?\n/save answers.jsonl\n"


@dataclass(frozen=True)
class Ran:
    """A chat that ended: its streams, the report that it saved, and whether it kept a history."""

    done: Done
    report: dict[str, Any]
    kept: bool


def saved(effect: Callable[[dict[str, Any]], Any]) -> Callable[[Ran], Any]:
    return lambda ran: effect(ran.report)


def lines(ran: Ran) -> Any:
    return len(ran.done.err.splitlines())


def error(ran: Ran) -> Any:
    return str(ran.done.error)


EFFECTS = (
    *(replace(row, effect=saved(row.effect)) for row in ANSWERING),
    Row("method", ("none",), saved(leaving)),
    Row("seed", ("5",), saved(generated), ("--temperature", "3")),
    Row("history", (), lambda ran: ran.kept),
    Row("device", ("cuda:77",), error),
    Row("attn", ("flash_attention_2",), error),
    Row("quiet", (), lines, ("--choices", "yes,no")),
    Row("verbose", (), lines),
)

ELSEWHERE: Mapping[str, str] = {
    **READING_ELSEWHERE,
    "model": "tests/batch/test_chat.py; every test here names nano",
    "stream": "test_an_answer_is_printed_at_once_where_it_is_not_streamed",
    "offline": "test_offline_reaches_what_fetches",
    "feature-cache": "test_encoder_outputs_are_kept_on_disk_unless_refused",
}
"""Options whose effect cannot be seen in nano's report, and where it is tested."""


@pytest.fixture(scope="module")
def memory() -> dict[tuple[str, ...], Ran]:
    """Chats by their flags: many rows are compared with the same plain one."""
    return {}


def _chat(omnidrop: Run, memory: dict[tuple[str, ...], Ran], flags: tuple[str, ...]) -> Ran:
    if flags not in memory:
        file = Path("answers.jsonl")
        file.unlink(missing_ok=True)
        done = omnidrop("chat", "demo", "--model", "nano", *flags, stdin=SCRIPT)
        report = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        memory[flags] = Ran(done, report, paths.history().exists())
    return memory[flags]


@pytest.mark.parametrize("row", EFFECTS, ids=lambda row: row.flag)
def test_an_option_has_its_effect(omnidrop: Run, memory: dict[tuple[str, ...], Ran], row: Row) -> None:
    assert row.effect(_chat(omnidrop, memory, (*row.given, *row.words))) != row.effect(_chat(omnidrop, memory, row.given))


@pytest.mark.parametrize(("flags", "prints"), [((), 0), (("--no-stream",), 1)])
def test_an_answer_is_printed_at_once_where_it_is_not_streamed(
    omnidrop: Run, flags: tuple[str, ...], prints: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[str] = []
    monkeypatch.setattr(chat, "emit", lambda text, target=None: printed.append(text))
    assert omnidrop("chat", "demo", "--model", "nano", *flags, stdin="What is said?\n").error is None
    assert printed == ["hello music garden goodbye"] * prints


def test_encoder_outputs_are_kept_on_disk_unless_refused(omnidrop: Run) -> None:
    words = ("chat", "demo", "--model", "nano")
    assert omnidrop(*words, "--no-feature-cache", stdin=SCRIPT).error is None
    assert not paths.features().exists()
    Path("answers.jsonl").unlink()
    assert omnidrop(*words, stdin=SCRIPT).error is None
    assert paths.features().exists()


def test_offline_reaches_what_fetches(omnidrop: Run) -> None:
    done = omnidrop("chat", "https://example.org/clip.mp4", "--model", "nano", "--offline", stdin="what?\n")
    assert "offline" in str(done.error)


def test_every_option_is_in_a_table() -> None:
    check_complete("chat", EFFECTS, ELSEWHERE)
