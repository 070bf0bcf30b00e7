"""Every option of `explain` changes what runs: from the command line to the effect, on a real clip with nano.

`python -m tests.benchmarks.break_flags explain` forces each option to its default and reports the tests that notice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from omnidrop_cli import paths
from omnidrop_cli.explain import make
from omnidrop_cli.explain.record import Explanation
from omnidrop_cli.report.json import to_dict
from tests.commands.effects import ANSWERING, READING_ELSEWHERE, Row, Run, check_complete, generated
from tests.commands.running import Done


@dataclass(frozen=True)
class Ran:
    """A run that ended: its streams, its explanation (None where it failed), and the names and sizes of the files that it left."""

    done: Done
    explanation: Explanation | None
    files: dict[str, int]


def first(effect: Callable[[dict[str, Any]], Any]) -> Callable[[Ran], Any]:
    return lambda ran: ran.explanation and effect(to_dict(ran.explanation.first))


def methods(ran: Ran) -> Any:
    return ran.explanation and [report.method for report in ran.explanation.reports]


def full(ran: Ran) -> Any:
    return ran.explanation and ran.explanation.full is None


def files(ran: Ran) -> Any:
    return sorted(ran.files)


def lines(ran: Ran) -> Any:
    return len(ran.done.err.splitlines())


def error(ran: Ran) -> Any:
    return str(ran.done.error)


EFFECTS = (
    *(replace(row, effect=first(row.effect)) for row in ANSWERING),
    Row("method", ("random",), methods),
    Row("methods", ("omnidrop,random",), methods),
    Row("seed", ("5",), first(generated), ("--temperature", "3")),
    Row("full", ("--no-full",), full),
    Row("output", ("a.html",), files),
    Row("embed-media", (), lambda ran: ran.files["a.html"] > 200_000, ("-o", "a.html")),
    Row("overlay", ("a.mp4",), files),
    Row("png", ("a.png",), files),
    Row("svg", ("a.svg",), files),
    Row("device", ("cuda:77",), error),
    Row("attn", ("flash_attention_2",), error),
    Row("quiet", (), lines),
    Row("verbose", (), lines),
)

ELSEWHERE: Mapping[str, str] = {
    **READING_ELSEWHERE,
    "model": "every test here names nano",
    "offline": "test_offline_reaches_what_fetches",
    "feature-cache": "test_encoder_outputs_are_kept_on_disk_unless_refused",
}
"""Options whose effect cannot be seen in nano's reports, and where it is tested."""


@pytest.fixture(scope="module")
def memory() -> dict[tuple[str, ...], Ran]:
    """Runs by their flags: many rows are compared with the same plain one."""
    return {}


@pytest.fixture
def run(
    omnidrop: Run, memory: dict[tuple[str, ...], Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[tuple[str, ...]], Ran]:
    """Explains the demo clip in a folder of its own; what is explained is noted on its way to the page."""
    made: list[Explanation] = []
    whole = make.explain

    def explain(*arguments: Any, **options: Any) -> Any:
        explanation, clip = whole(*arguments, **options)
        made.append(explanation)
        return explanation, clip

    monkeypatch.setattr(make, "explain", explain)

    def explained(flags: tuple[str, ...]) -> Ran:
        if flags not in memory:
            folder = tmp_path / str(len(memory))
            folder.mkdir()
            monkeypatch.chdir(folder)
            made.clear()
            done = omnidrop("explain", "demo", "What is said?", "--model", "nano", *flags)
            memory[flags] = Ran(done, made[0] if made else None, {name: os.path.getsize(name) for name in os.listdir(folder)})
        return memory[flags]

    return explained


@pytest.mark.parametrize("row", EFFECTS, ids=lambda row: row.flag)
def test_an_option_has_its_effect(run: Callable[[tuple[str, ...]], Ran], row: Row) -> None:
    assert row.effect(run((*row.given, *row.words))) != row.effect(run(row.given))


def test_encoder_outputs_are_kept_on_disk_unless_refused(omnidrop: Run) -> None:
    words = ("explain", "demo", "What is said?", "--model", "nano")
    assert omnidrop(*words, "--no-feature-cache").error is None
    assert not paths.features().exists()
    assert omnidrop(*words).error is None
    assert paths.features().exists()


def test_offline_reaches_what_fetches(omnidrop: Run) -> None:
    done = omnidrop("explain", "https://example.org/clip.mp4", "what?", "--model", "nano", "--offline")
    assert "offline" in str(done.error)


def test_every_option_is_in_a_table() -> None:
    check_complete("explain", EFFECTS, ELSEWHERE)
