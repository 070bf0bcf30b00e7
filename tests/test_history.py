"""Answers that are kept: by several processes at once, for their user alone, and gone once forgotten."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from omnidrop_cli import history, paths
from omnidrop_cli.errors import OmnidropError, UsageError
from omnidrop_cli.report.json import to_dict
from tests.report import samples


def report(media: str = "https://example.org/talk.mp4", question: str = "What is said?", answer: str = "fox") -> dict[str, Any]:
    return {**to_dict(samples.report()), "media": {"asked": media}, "question": question, "answer": answer}


def test_nothing_is_there_before_something_is_kept() -> None:
    assert history.entries() == []
    with pytest.raises(UsageError, match="no answer 1"):
        history.entry(1)
    assert not paths.history().exists()


def test_answers_come_back_in_order_and_by_number() -> None:
    first, second = history.add(report()), history.add(report(question="Who?"), earlier_turns=2)
    assert [entry.id for entry in history.entries()] == [first, second]
    assert [entry.id for entry in history.entries(last=1)] == [second]
    found = history.entry(second)
    assert (found.question, found.answer, found.earlier_turns) == ("Who?", "fox", 2)
    assert found.report == report(question="Who?")


@pytest.mark.parametrize(
    ("text", "numbers"), [("GARDEN", [1]), ("talk.mp4", [1, 2, 3]), ("50 %", [2]), ("a_b", [3]), ("%", [2]), ("acb", [3])]
)
def test_search_takes_words_as_they_are(text: str, numbers: list[int]) -> None:
    history.add(report(answer="the garden, fox"))
    history.add(report(question="Is it 50 %?", answer=""))
    history.add(report(question="a_b?", answer="acb"))
    assert [entry.id for entry in history.entries(search=text)] == numbers


def test_a_file_is_kept_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clip.mp4").touch()
    for media in ("clip.mp4", "demo", "-"):
        history.add(report(media=media))
    assert [entry.media for entry in history.entries()] == [str(tmp_path / "clip.mp4"), "demo", "-"]


def test_names_may_hold_bytes_that_are_no_text() -> None:
    number = history.add(report(media="caf\udce9.mp4"))
    assert history.entry(number).media == history.entry(number).report["media"]["asked"] == "caf\udce9.mp4"
    assert [entry.id for entry in history.entries(search="\udce9")] == [number]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_the_file_is_its_users_alone() -> None:
    history.add(report())
    assert stat.S_IMODE(paths.history().stat().st_mode) == 0o600
    assert stat.S_IMODE(paths.history().parent.stat().st_mode) == 0o700


def test_several_processes_write_at_once() -> None:
    code = (
        "import json, sys; from omnidrop_cli import history\n"
        "for number in range(10): history.add(json.loads(sys.argv[1]) | {'question': f'{sys.argv[2]} {number}'})"
    )
    import json

    started = [subprocess.Popen([sys.executable, "-c", code, json.dumps(report()), str(number)]) for number in range(4)]
    assert [process.wait(120) for process in started] == [0] * 4
    assert sorted(entry.question for entry in history.entries()) == sorted(f"{who} {number}" for who in range(4) for number in range(10))


def test_what_is_forgotten_is_not_in_the_file() -> None:
    history.add(report(question="What is the password?", answer="xyzzy"))
    kept = history.add(report())
    assert b"xyzzy" in paths.history().read_bytes()
    history.remove([1])
    assert b"xyzzy" not in paths.history().read_bytes()
    assert [entry.id for entry in history.entries()] == [kept]
    assert history.add(report()) == kept + 1, "numbers are not given twice"


def test_damage_and_other_versions_are_one_line() -> None:
    paths.history().parent.mkdir(parents=True)
    paths.history().write_bytes(b"this is no database, and never was, whatever it says" * 100)
    for call in (history.entries, lambda: history.add(report())):
        with pytest.raises(OmnidropError, match="is damaged"):
            call()
    paths.history().unlink()
    number = history.add(report())
    with sqlite3.connect(paths.history()) as base:
        base.execute("UPDATE answers SET report = '{'")
    with pytest.raises(OmnidropError, match=f"answer {number} in .* is damaged"):
        history.entry(number)
    with sqlite3.connect(paths.history()) as base:
        base.execute("UPDATE answers SET question = CAST(X'FF' AS TEXT)")
    with pytest.raises(OmnidropError, match="is damaged"):
        history.entries()
    with sqlite3.connect(paths.history()) as base:
        base.execute(f"PRAGMA user_version = {history.VERSION + 1}")
    with pytest.raises(OmnidropError, match="newer omnidrop"):
        history.add(report())
