"""`omnidrop history`, and the flag and settings that keep an answer."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from omnidrop_cli import history, paths
from omnidrop_cli.errors import UsageError
from tests.commands.fake_pipeline import FakePipeline
from tests.commands.running import Done

Run = Callable[..., Done]


@pytest.fixture
def kept(omnidrop: Run, pipeline: FakePipeline) -> int:
    """The number of an answer in the history."""
    assert omnidrop("ask", "clip.mp4", "What is said?", "--keep", "0.2", "--history").code == 0
    return history.entries()[-1].id


def test_nothing_is_kept_unless_asked_for(omnidrop: Run, pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    omnidrop("ask", "clip.mp4", "what?")
    assert not paths.history().exists()
    monkeypatch.setenv("OMNIDROP_HISTORY", "true")
    omnidrop("ask", "clip.mp4", "what?")
    omnidrop("ask", "clip.mp4", "private?", "--no-history")
    assert [entry.question for entry in history.entries()] == ["what?"]
    monkeypatch.delenv("OMNIDROP_HISTORY")
    Path("omnidrop.toml").write_text("history = true")
    omnidrop("ask", "clip.mp4", "who?", "--compare", "--json")
    assert [entry.question for entry in history.entries()] == ["what?", "who?"]
    assert history.entries()[-1].report["pruning"]["method"] == "omnidrop"


def test_ls_shows_and_searches(omnidrop: Run, kept: int) -> None:
    done = omnidrop("history", "ls")
    assert "What is said?" in done.out
    assert "The quick brown fox." in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    assert "nothing fits" in omnidrop("history", "ls", "--search", "walrus").err
    omnidrop("ask", "clip.mp4", "a " * 200, "--history")
    value = json.loads(omnidrop("history", "ls", "-n", "1", "--json").out)
    assert [answer["id"] for answer in value["answers"]] == [kept + 1]
    assert max(map(len, omnidrop("history", "ls").out.splitlines())) <= 80


def test_show_prints_the_answer_or_the_report(omnidrop: Run, kept: int) -> None:
    done = omnidrop("history", "show", str(kept))
    assert done.out == "The quick brown fox.\n"
    assert "question: What is said?" in done.err
    assert json.loads(omnidrop("history", "show", str(kept), "--json").out)["kind"] == "report"
    assert isinstance(omnidrop("history", "show", "99").error, UsageError)


def test_rerun_asks_the_same_again(
    omnidrop: Run, kept: int, pipeline: FakePipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = omnidrop("history", "rerun", str(kept), "--json")
    assert json.loads(done.out)["answer"] == "The quick brown fox."
    assert pipeline.jobs[1] == pipeline.jobs[0]
    assert pipeline.jobs[1].method.keep == 0.2
    assert len(history.entries()) == 1
    omnidrop("history", "rerun", str(kept), "--history", "--compare", "-o", "again.txt")
    assert Path("again.txt").read_text() == "The quick brown fox.\n"
    assert len(history.entries()) == 2


def test_what_cannot_be_the_same_is_said(omnidrop: Run, pipeline: FakePipeline) -> None:
    omnidrop("ask", "-", "what?", "--history", stdin="a clip")
    assert "came from stdin" in str(omnidrop("history", "rerun", "1").error)
    report = dict(history.entry(1).report)
    history.add({**report, "media": {**report["media"], "asked": "clip.mp4"}}, earlier_turns=2)
    assert "after 2 other questions" in omnidrop("history", "rerun", "2").err


def test_clean_asks_and_takes_the_old_or_the_named(
    omnidrop: Run, kept: int, pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "would forget 1 answer" in str(omnidrop("history", "clean").error)
    omnidrop("ask", "clip.mp4", "who?", "--history")
    assert "nothing to forget" in omnidrop("history", "clean", "--older-than", "1d", "--yes").err
    assert omnidrop("history", "clean", str(kept), "--yes").code == 0
    assert [entry.id for entry in history.entries()] == [kept + 1]
    later = time.time() + 2 * 86400
    monkeypatch.setattr(time, "time", lambda: later)
    omnidrop("history", "clean", "--older-than", "1d", "--yes")
    assert history.entries() == []


def test_an_answer_is_not_lost_with_its_history(omnidrop: Run, pipeline: FakePipeline) -> None:
    paths.history().parent.mkdir(parents=True)
    paths.history().mkdir()
    done = omnidrop("ask", "clip.mp4", "what?", "--history")
    assert (done.code, done.out) == (0, "The quick brown fox.\n")
    assert "warning: this answer is not in the history" in done.err
    assert os.path.isdir(paths.history())
