"""`omnidrop ask` and `chat` about several clips: which words are clips, and what is said where they are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from omnidrop_cli.errors import MediaError, UsageError
from tests.clips import Clips
from tests.commands.fake_pipeline import FakePipeline
from tests.commands.running import Done

Run = Callable[..., Done]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b.png", "what"):
        (tmp_path / name).touch()


@pytest.mark.parametrize(
    ("words", "media", "question"),
    [
        (["a.mp4", "b.png", "which?"], ("a.mp4", "b.png"), "which?"),
        (["a.mp4", "a.mp4", "demo", "which?"], ("a.mp4", "a.mp4", "demo"), "which?"),
        (["a.mp4", "b.png", "-q", "which?"], ("a.mp4", "b.png"), "which?"),
        (["-q", "which?", "a.mp4", "b.png"], ("a.mp4", "b.png"), "which?"),
        (["a.mp4", "https://example.org/x", "What is in b.png?"], ("a.mp4", "https://example.org/x"), "What is in b.png?"),
        (["a.mp4", "gone.mp4", "which?"], ("a.mp4", "gone.mp4"), "which?"),
        (["a.mp4", "what"], ("a.mp4",), "what"),  # a file without a suffix does not take the question's place
        (["gone", "what?"], ("gone",), "what?"),
    ],
)
def test_the_last_word_is_the_question(
    omnidrop: Run, pipeline: FakePipeline, words: list[str], media: tuple[str, ...], question: str
) -> None:
    assert omnidrop("ask", *words).code == 0
    assert (pipeline.jobs[0].all_media, pipeline.jobs[0].question) == (media, question)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.mp4", "b.png"], "no question was given: b.png is a clip too"),
        (["a.mp4", "https://example.org/x"], "no question was given"),
        (["a.mp4", "What", "is", "said?"], "'What' is no clip"),
        (["a.mp4", "b.png", "which?", "-q", "who?"], "was given twice"),
        (["a.mp4", "-", "-"], "the clip and the question are both read from stdin"),
        (["-", "-", "which?"], "several clips are read from stdin"),
        (["a.mp4", "", "which?"], "no clip given"),
    ],
)
def test_mistakes_are_one_line(omnidrop: Run, pipeline: FakePipeline, words: list[str], said: str) -> None:
    error = omnidrop("ask", *words).error
    assert isinstance(error, UsageError)
    assert said in error.message
    assert error.hint
    assert not pipeline.jobs


def test_json_names_every_clip(omnidrop: Run, pipeline: FakePipeline) -> None:
    report = json.loads(omnidrop("ask", "a.mp4", "b.png", "which?", "--json").out)
    assert [one["asked"] for one in (report["media"], *report["more_media"])] == ["a.mp4", "b.png"]
    comparison = json.loads(omnidrop("ask", "a.mp4", "b.png", "which?", "--json", "--compare").out)
    assert [one["asked"] for one in comparison["pruned"]["more_media"]] == ["b.png"]


def test_the_table_has_a_row_for_every_clip(omnidrop: Run, pipeline: FakePipeline) -> None:
    said = omnidrop("ask", "a.mp4", "b.png", "which?", "--table").err
    assert "clip 1" in said
    assert "clip 2" in said
    assert "b.png, 6.00 s of 7.50 s" in said


def test_history_asks_about_all_clips_again(omnidrop: Run, pipeline: FakePipeline, tmp_path: Path) -> None:
    omnidrop("ask", "a.mp4", "b.png", "which?", "--history")
    omnidrop("history", "rerun", "1")
    assert pipeline.jobs[1].all_media == (str(tmp_path / "a.mp4"), str(tmp_path / "b.png"))
    assert "a.mp4 +1" in omnidrop("history", "ls").out
    assert str(tmp_path / "b.png") in omnidrop("history", "show", "1").err


def test_the_missing_one_is_named_before_any_is_decoded(omnidrop: Run, clips: Clips) -> None:
    done = omnidrop("ask", str(clips["silent_video"]), "gone.mp4", "which?", "--model", "nano", "--json")
    assert isinstance(done.error, MediaError)
    assert done.error.message == "gone.mp4: no such file"


def test_two_clips_answer(omnidrop: Run, clips: Clips) -> None:
    done = omnidrop("ask", str(clips["one_frame"]), str(clips["mp3"]), "which?", "--model", "nano", "--json", "--kept")
    assert done.code == 0, done.error
    report = json.loads(done.out)
    assert report["media"]["frames"] == 2
    assert report["more_media"][0]["audio_s"] > 1
    assert report["kept"]["more_clips"][0]["audio"]["depth"]
    assert "cannot compare several" in done.err


def test_chat_about_two_clips(omnidrop: Run, clips: Clips) -> None:
    done = omnidrop("chat", str(clips["one_frame"]), str(clips["mp3"]), "--model", "nano", stdin="what?\nand then?\n")
    assert done.code == 0
    assert len(done.out.splitlines()) == 2
