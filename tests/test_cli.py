"""The whole program, for real: real clips, a real checkpoint with random weights, processes of their own."""

from __future__ import annotations

import io
import json
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from omnidrop_cli.cli import build
from omnidrop_cli.commands import _exit
from omnidrop_cli.report.json import comparison_from_dict, from_dict
from tests.clips import Clips
from tests.commands.running import Done, run

SHORT = ("--max-new-tokens", "8")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    from transformers.utils import logging

    from omnidrop_cli.model.random_weights import tiny_thinker
    from tests.model.checkpoints import write_plain

    logging.disable_progress_bar()  # its last newline may come in the middle of a later test
    return str(write_plain(tiny_thinker(), tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def asked(model: str, clips: Clips) -> Done:
    return run("ask", str(clips["speech_video"]), "What is said?", "--model", model, *SHORT, "--json", "-v")


def test_ask_answers(asked: Done) -> None:
    assert asked.code == 0, asked.err
    report = from_dict(json.loads(asked.out))
    assert 0 < len(report.answer.token_ids) <= 8
    assert report.trace.kv_lengths[-1] < report.prompt.total
    assert report.clip.frames == 12
    assert report.timings.prefill_s > 0
    assert asked.err.startswith("fetch")
    assert "retention" in asked.err


def test_stdout_is_the_same_answer_alone(asked: Done, model: str, clips: Clips, tmp_path: Path) -> None:
    done = run("ask", str(clips["speech_video"]), "-", "--model", model, *SHORT, "-o", str(tmp_path / "answer"), stdin="What is said?\n")
    assert (done.code, done.out) == (0, ""), done.err
    from omnidrop_cli.report.text import clean

    assert (tmp_path / "answer").read_text(encoding="utf-8").strip() == clean(from_dict(json.loads(asked.out)).answer.text).strip()


def test_compare(asked: Done, model: str, clips: Clips) -> None:
    done = run("ask", str(clips["speech_video"]), "What is said?", "--model", model, *SHORT, "--compare", "--json", "--no-table")
    assert done.code == 0
    assert [line.split(";")[0] for line in done.err.splitlines()] == ["warning: the answer was cut at 8 tokens"]
    comparison = comparison_from_dict(json.loads(done.out))
    assert comparison.full.method == "none"
    assert comparison.pruned.answer == from_dict(json.loads(asked.out)).answer
    assert comparison.full.memory.kv_mb > comparison.pruned.memory.kv_mb


MISTAKES = [
    (["{nothing}.mp4", "what?"], 1, "no such file"),
    (["{folder}", "what?"], 1, "is a folder"),
    (["{text}", "what?"], 1, "cannot be read"),
    (["{empty}", "what?"], 1, "empty"),
    (["{cut}", "what?"], 1, "cannot be read"),
    (["{silent}", "what?", "--no-video"], 1, "video only, and the video is switched off"),
    (["{wav}", "what?", "--no-audio"], 1, "audio only, and the audio is switched off"),
    (["{video}", ""], 2, "the question is empty"),
    (["{video}", "what?", "--keep", "0"], 2, "--keep is 0"),
    (["{video}", "what?", "--keep", "2"], 2, "--keep is 2"),
    (["{video}", "what?", "--method", "omnidrip"], 2, "unknown method"),
    (["{video}", "what?", "--model", "11b"], 2, "unknown model"),
    (["{video}", "what?", "--model", "./nowhere/at-all"], 1, "no directory"),
    (["{video}", "what?", "--preset", "paper-99"], 2, "no preset"),
    (["{video}", "what?", "--no-audio", "--no-video"], 2, "leave nothing"),
    (["http://127.0.0.1:9/clip.mp4", "what?"], 1, "127.0.0.1"),
    (["https://example.invalid/clip.mp4", "what?", "--offline"], 1, "--offline"),
]
"""Arguments of ask, the exit code, and words of the one line that says what is wrong."""


@pytest.mark.parametrize("clip", ["demo", "https://example.org/x", "{file}"])
def test_a_clip_in_a_commands_place(clip: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = clip.format(file=tmp_path / "my talk.mp4")
    (tmp_path / "my talk.mp4").touch()
    assert _exit._run(build(), [name, "what?"]) == 2
    assert f'hint: ask about it: omnidrop ask {shlex.quote(name)} "What is said?"' in capfd.readouterr().err
    assert _exit._run(build(), [str(tmp_path), "what?"]) == 2
    assert "No such command" in capfd.readouterr().err


@pytest.mark.parametrize(("arguments", "code", "words"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else None)
def test_a_mistake_is_one_clear_line(
    arguments: list[str], code: int, words: str, model: str, clips: Clips, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """In this process, which has torch already: only `test_exit` needs a process for each ending."""
    places = {
        "nothing": "nothing",
        "folder": str(tmp_path),
        "text": str(clips["text_mp4"]),
        "empty": str(clips["empty"]),
        "cut": str(clips["cut_no_index"]),
        "silent": str(clips["silent_video"]),
        "wav": str(clips["wav"]),
        "video": str(clips["speech_video"]),
    }
    with_model = [] if "--model" in arguments else ["--model", model]
    assert _exit._run(build(), ["ask", *(argument.format(**places) for argument in arguments), *with_model]) == code
    printed = capfd.readouterr()
    assert printed.out == ""
    said = printed.err.splitlines()
    assert said[0].startswith("error: ")
    assert words in said[0]
    assert len(said) <= 2
    assert len(said) == 1 or said[1].startswith("hint: ")


@pytest.mark.parametrize(
    ("flags", "words"), [(["--device", "cuda"], "cuda"), (["--device", "tpu"], "tpu"), (["--attn", "flash_attention_2"], "flash")]
)
def test_what_this_machine_lacks_is_one_clear_line(
    flags: list[str], words: str, model: str, clips: Clips, capfd: pytest.CaptureFixture[str]
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    assert _exit._run(build(), ["ask", str(clips["speech_video"]), "what?", "--model", model, *flags]) in (1, 2)
    said = capfd.readouterr().err.splitlines()
    assert said[0].startswith("error: ")
    assert words in said[0].lower()
    assert "bug" not in said[0]
    assert len(said) == 2


def test_a_question_longer_than_the_context(
    model: str, clips: Clips, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("word " * 60_000))
    assert _exit._run(build(), ["ask", str(clips["speech_video"]), "-", "--model", model]) == 1
    said = capfd.readouterr().err.splitlines()
    assert "tokens" in said[0]
    assert len(said) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no such file names")
def test_a_hostile_file_name_stays_in_its_line(model: str, clips: Clips, tmp_path: Path) -> None:
    name = "[red]\x1b]0;owned\x07\u202e\n--help.mp4"
    (tmp_path / name).write_bytes(clips["speech_video"].read_bytes())
    done = run("ask", name, "what?", "--model", model, *SHORT, "-v", cwd=tmp_path)
    assert done.code == 0, done.err
    assert not set(done.out + done.err) & set("\x1b\x07\u202e")
    missing = run("ask", f"no{name}", "what?", "--model", model, cwd=tmp_path)
    assert missing.code == 1
    assert not set(missing.err) & set("\x1b\x07\u202e")
    assert len(missing.err.splitlines()) <= 2


@pytest.mark.slow
def test_help_takes_less_than_twice_the_imports_it_needs() -> None:
    """Processor time of this process's children, the least of five of each, alternated: the machine may be busy.

    `typer.rich_utils` is what every Typer program imports to print its help.
    """

    def spent(*command: str) -> float:
        code = (
            "import resource, subprocess, sys\n"
            f"subprocess.run([sys.executable, *{command!r}], stdout=subprocess.DEVNULL, check=True)\n"
            "use = resource.getrusage(resource.RUSAGE_CHILDREN)\nprint(use.ru_utime + use.ru_stime)"
        )
        return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    helps, imports = [], []
    for _ in range(5):
        helps.append(spent("-m", "omnidrop_cli", "--help"))
        imports.append(spent("-c", "import typer, typer.rich_utils, rich.console, rich.table, rich.markdown"))
    assert min(helps) < 2 * min(imports), (helps, imports, statistics.median(helps))
