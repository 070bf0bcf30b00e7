"""`omnidrop chat` on a script: one pass of the encoders, a conversation, slash commands, streams and exit codes."""

from __future__ import annotations

import json
import os
import pty
import select
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omnidrop_cli import history, paths
from omnidrop_cli.config import GenerationConfig, ModelConfig, PruningConfig, Request
from omnidrop_cli.engine import session as session_module
from omnidrop_cli.engine.chat import Conversation
from omnidrop_cli.engine.encoded_prompt import PromptSource
from omnidrop_cli.engine.pipeline import open_both
from omnidrop_cli.errors import UsageError
from omnidrop_cli.report.json import from_dict

Run = Callable[..., Any]
Clips = Mapping[str, Path]


@pytest.fixture
def job(checkpoint: Path, clips: Clips) -> Request:
    return Request(
        str(clips["speech_video"]),
        "?",
        model=ModelConfig(str(checkpoint)),
        method=PruningConfig(keep=0.3),
        generation=GenerationConfig(max_new_tokens=4),
    )


@pytest.fixture
def talk(job: Request) -> Conversation:
    session, clips, seconds = open_both(job)
    return Conversation(session, job, clips, seconds)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever the encoders run."""
    runs: list[int] = []
    encoders = session_module.encode_media
    monkeypatch.setattr(session_module, "encode_media", lambda *a, **k: runs.append(1) or encoders(*a, **k))
    return runs


def test_follow_up_sees_the_conversation_and_the_encoders_run_once(talk: Conversation, job: Request, encoded: list[int]) -> None:
    first = talk.ask("who?")
    second = talk.ask("and then?")
    assert len(encoded) == 1
    session = talk._session
    assert first.answer == session.run(replace(job, question="who?")).answer
    history = [("who?", first.answer.text)]
    alone = session.answer(session.encode(PromptSource(replace(job, question="and then?"), history=history)))
    assert (second.answer, second.prompt) == (alone.answer, alone.prompt)
    assert second.prompt.text > first.prompt.text
    assert second.timings.decode_s == second.timings.encode_s == 0 < first.timings.decode_s


def test_forgetting_makes_the_first_question_first_again(talk: Conversation) -> None:
    first = talk.ask("who?")
    talk.ask("what?")
    talk.forget()
    assert talk.ask("who?").answer == first.answer


def test_a_composition_in_a_script(omnidrop: Run, checkpoint: Path, clips: Clips, tmp_path: Path) -> None:
    script = f"/method seats+omnidrop\nwho?\n/save {tmp_path / 'a.jsonl'}\n"
    result = omnidrop(*words(checkpoint, clips), stdin=script)
    assert result.exit_code == 0, result.stderr
    assert json.loads((tmp_path / "a.jsonl").read_text())["pruning"]["method"] == "seats+omnidrop"


def test_a_method_that_reads_more_encodes_again_once(talk: Conversation, encoded: list[int]) -> None:
    talk.method = PruningConfig("none")
    talk.ask("who?")
    talk.method = PruningConfig("omnidrop", keep=0.3)
    talk.ask("who?")
    talk.method = PruningConfig("none")
    talk.ask("who?")
    assert len(encoded) == 2


def test_comparison_keeps_the_conversation_as_it_was(talk: Conversation, encoded: list[int]) -> None:
    with pytest.raises(ValueError, match="nothing was asked"):
        talk.compare()
    report = talk.ask("who?")
    again = talk.compare()
    assert again.pruned.answer == report.answer
    assert len(talk.turns) == 1
    talk.compare("what?")
    assert [question for question, _ in talk.turns] == ["who?", "what?"]
    assert len(encoded) == 1


def test_an_unknown_method_changes_nothing(talk: Conversation) -> None:
    before = talk.method
    with pytest.raises(UsageError):
        talk.method = PruningConfig("omnidorp")
    assert talk.method == before


def words(checkpoint: Path, clips: Clips) -> list[str]:
    return ["chat", str(clips["speech_video"]), "--model", str(checkpoint), "--keep", "0.3", "--max-new-tokens", "4"]


def test_script_on_stdin(omnidrop: Run, checkpoint: Path, clips: Clips, tmp_path: Path, encoded: list[int]) -> None:
    script = "# a comment\nwho?\n\n/keep 0.5\nwhat?\n/method none\nwhere?\n"
    script += f"/save {tmp_path / 'a.jsonl'}\n/save {tmp_path / 'a.md'}\nquit\nnever?\n"
    result = omnidrop(*words(checkpoint, clips), stdin=script)
    assert result.exit_code == 0, result.stderr
    reports = [from_dict(json.loads(line)) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [report.job.question for report in reports] == ["who?", "what?", "where?"]
    assert [report.method for report in reports] == ["omnidrop", "omnidrop", "none"]
    assert [round(report.trace.retention_after, 1) for report in reports] == [0.3, 0.5, 1.0]
    assert (tmp_path / "a.md").read_text().count("**") == 6
    assert len(encoded) == 1
    assert "3 answers are in" in result.stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/nonsense", "no command /nonsense"),
        ("/keep much", "not a share"),
        ("/keep 7", "error"),
        ("/method omnidorp", "unknown method"),
        ("/method", "the method is omnidrop"),
        ("/table", "nothing was asked"),
        ("/compare", "nothing was asked"),
        ("/save", "wants a file"),
        ("/save a.xlsx", "ends in .md, .csv or .jsonl"),
        ("/save /no/such/folder/a.md", "no folder"),
    ],
)
def test_a_wrong_line_is_reported_and_the_script_goes_on(
    line: str, message: str, omnidrop: Run, checkpoint: Path, clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = omnidrop(*words(checkpoint, clips), stdin=f"{line}\nwho?\n")
    assert result.exit_code == 3
    assert message in result.stderr
    assert result.stdout.endswith("\n")
    assert not [*tmp_path.glob("a.*")]


def test_table_compare_and_help_go_to_stderr(omnidrop: Run, checkpoint: Path, clips: Clips) -> None:
    answer = omnidrop(*words(checkpoint, clips), stdin="who?\n").stdout
    result = omnidrop(*words(checkpoint, clips), stdin="who?\n/table\n/compare\n/help\n")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == answer * 2
    assert "audio and video kept" in result.stderr
    assert "/forget" in result.stderr


def test_a_question_of_several_lines(omnidrop: Run, checkpoint: Path, clips: Clips, tmp_path: Path) -> None:
    script = f'''"""who?\n# not a comment\n /not a command\n"""\n"""/one line"""\nlast\n/save {tmp_path / "a.jsonl"}\n'''
    result = omnidrop(*words(checkpoint, clips), stdin=script)
    assert result.exit_code == 0, result.stderr
    asked = [json.loads(line)["question"] for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert asked == ["who?\n# not a comment\n /not a command", "/one line", "last"]
    result = omnidrop(*words(checkpoint, clips), stdin='"""never\nends\n')
    assert isinstance(result.exception, UsageError)
    assert "has no end" in str(result.exception)


def test_save_replaces_only_what_this_chat_wrote(omnidrop: Run, checkpoint: Path, clips: Clips, tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine.md", tmp_path / "theirs.md"
    theirs.write_text("precious")
    result = omnidrop(*words(checkpoint, clips), stdin=f"who?\n/save {mine}\n/save {theirs}\nwhat?\n/save {mine}\n")
    assert result.exit_code == 3
    assert f"error: {theirs} exists" in result.stderr
    assert theirs.read_text() == "precious"
    text = mine.read_text()
    assert text.count("**") == 4
    assert text.count("*omnidrop, 30 % kept, ") == text.count(", cut at its maximum length*") == 2


def test_an_answer_that_was_cut_is_said(omnidrop: Run, checkpoint: Path, clips: Clips) -> None:
    result = omnidrop(*words(checkpoint, clips), "--quiet", stdin="who?\nwhat?\n")
    assert result.stderr.count("warning: the answer was cut at 4 tokens; raise --max-new-tokens") == 2


def test_choices_in_a_chat(omnidrop: Run, checkpoint: Path, clips: Clips) -> None:
    result = omnidrop(*words(checkpoint, clips), "--choices", "yes,no", stdin="is it?\n")
    assert result.stdout.strip() in ("yes", "no")
    assert "omnidrop: " in result.stderr
    assert " %" in result.stderr


def test_a_schema_in_a_chat(omnidrop: Run) -> None:
    chat = ("chat", "demo", "--model", "nano", "--schema", '{"enum": [1, 2, 33]}')
    result = omnidrop(*chat, stdin="How many beeps are there?\n/compare\n")
    assert (result.exit_code, result.stdout) == (0, "2\n2\n"), result.stderr
    cut = omnidrop(*chat[:-1], '{"enum": ["red"]}', "--max-new-tokens", "1", stdin="Which colour is the circle?\n")
    assert (cut.exit_code, cut.stdout) == (3, "")
    assert "error: the answer was cut at 1 tokens, before its JSON was complete" in cut.stderr


def test_nano_sees_each_question_alone_and_says_so(omnidrop: Run) -> None:
    chat = ("chat", "demo", "--model", "nano")
    result = omnidrop(*chat, stdin="What is said?\nWhat is shown?\nWhat is said?\n")
    assert result.exit_code == 0, result.stderr
    first, second, third = result.stdout.splitlines()
    assert first == third == "hello music garden goodbye"
    assert result.stderr.count("nano sees each question alone") == 1
    alone = omnidrop(*chat, stdin="What is shown?\n")
    assert alone.stdout == f"{second}\n"
    assert "alone" not in alone.stderr


def test_history_keeps_a_chat(omnidrop: Run, checkpoint: Path, clips: Clips) -> None:
    result = omnidrop(*words(checkpoint, clips), "--history", stdin="who?\n/keep 0.5\nwhat?\n/compare\n")
    assert result.exit_code == 0, result.stderr
    kept = history.entries()
    assert [(entry.question, entry.earlier_turns) for entry in kept] == [("who?", 0), ("what?", 1), ("what?", 1)]
    assert kept[0].media == str(clips["speech_video"])
    omnidrop(*words(checkpoint, clips), stdin="who?\n")
    assert len(history.entries()) == 3


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
def test_a_person_at_a_terminal(checkpoint: Path, clips: Clips, tmp_path: Path) -> None:
    """A question, a pasted question of two lines, /save with and without consent, /table, Ctrl-D."""
    saved = tmp_path / "a.jsonl"
    saved.write_text("precious")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "omnidrop_cli", *words(checkpoint, clips)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"}) as process:
        os.close(theirs)
        shown = b""

        def until(text: bytes) -> None:
            nonlocal shown
            while text not in shown:
                assert select.select([ours], [], [], 60)[0], shown
                shown += os.read(ours, 65536)
            shown = shown.partition(text)[2]

        try:
            until(b"Ctrl-D ends")
            until(b"> ")
            os.write(ours, b"who?\n")
            until(b"audio and video tokens;")
            until(b"> ")
            os.write(ours, f"/save {saved}\n".encode())
            until(b"Replace it? [y/N]")
            os.write(ours, b"n\n")
            until(b"not saved")
            until(b"> ")
            os.write(ours, b"\x1b[200~one\ntwo\x1b[201~")
            until(b"two")
            os.write(ours, b"\n")
            until(b"audio and video tokens;")
            until(b"> ")
            os.write(ours, f"/save {saved}\n".encode())
            until(b"Replace it? [y/N]")
            os.write(ours, b"y\n")
            until(b"2 answers are in")
            until(b"> ")
            os.write(ours, b"/table\n")
            until(b"audio and video kept")
            until(b"> ")
            os.write(ours, b"\x04")
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()  # or the end of the block would wait for it
    os.close(ours)
    typed = paths.chat_history()
    assert typed.read_text().splitlines()[0] == "who?"
    assert stat.S_IMODE(typed.stat().st_mode) == 0o600
    assert [json.loads(line)["question"] for line in saved.read_text().splitlines()] == ["who?", "one\ntwo"]
