"""`omnidrop batch` as a user meets it: streams, exit codes, files, the command that resumes."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omnidrop_cli.batch.answers_file import AnswersFile
from omnidrop_cli.commands.batch import resume_command
from omnidrop_cli.errors import UsageError

Run = Callable[..., Any]
SHORT = ("--max-new-tokens", "3")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_answers_exports_and_plain_lines(omnidrop: Run, checkpoint: Path, folder: Path, output: Path, tmp_path: Path) -> None:
    exports = tmp_path / "answers.csv", tmp_path / "answers.md"
    words = ["batch", folder, "-q", "who?", "-q", "what?", "-o", output, "--model", checkpoint, *SHORT]
    result = omnidrop(*words, "--export", exports[0], "--export", exports[1])
    assert result.exit_code == 3
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert [line.split(" ")[1] for line in lines if line[0].isdigit()] == ["2/6", "4/6", "6/6"]
    assert any(line.startswith("cut at ") and "4 of the new answers; raise --max-new-tokens" in line for line in lines), result.stderr
    assert sum("b.mp4" in line for line in lines) == 1, "a failing clip is named once"
    assert f"{exports[0]}: all answers of {output}" in lines
    assert f"{output}: 4 answered, 2 failed" in result.stderr
    assert "--retry-failed" in result.stderr
    assert Counter("error" in row for row in rows(output)) == {False: 4, True: 2}
    assert len(exports[0].read_text().splitlines()) >= 7
    assert exports[1].read_text().count("\n## ") == 3
    again = omnidrop(*words)
    assert (again.exit_code, len(rows(output))) == (0, 6), "nothing new failed"
    assert "0 answered, 0 failed, 4 answered before, 2 failed before" in again.stderr
    log = tmp_path / "run.log"
    assert omnidrop(*words, "--strict", "--log-file", log).exit_code == 3
    assert "2 failed before" in log.read_text()
    assert log.read_text()[:2] == "20"


def test_all_answered_is_exit_zero_and_quiet_is_quiet(omnidrop: Run, checkpoint: Path, folder: Path, output: Path) -> None:
    result = omnidrop("batch", folder / "c.wav", "-q", "who?", "-o", output, "--model", checkpoint, "--quiet", *SHORT)
    assert result.exit_code == 0
    assert re.fullmatch(
        rf"{re.escape(str(output))}: 1 answered, 0 failed in \d+ s \([\d.]+ a minute\)\ncut at 3 tokens: 1 of .*\n", result.stderr
    )


def test_a_schema_in_a_batch(omnidrop: Run, output: Path, tmp_path: Path) -> None:
    shape = tmp_path / "shape.json"
    shape.write_text('{"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"], "additionalProperties": false}')
    words = ("batch", "demo", "-q", "who?", "-o", output, "--model", "nano", "--schema", shape)
    cut = omnidrop(*words, "--max-new-tokens", "2")
    assert cut.exit_code == 3
    assert "cut at 2 tokens, before its JSON was complete" in rows(output)[0]["error"]["message"]
    assert "answer" not in rows(output)[0]
    assert omnidrop(*words, "--export", tmp_path / "answers.csv").exit_code == 0
    assert rows(output)[1]["parsed"]["a"] in ("x", "y")
    shape.write_text("{")
    assert isinstance(omnidrop(*words).exception, UsageError)


def test_dry_run_tells_and_touches_nothing(omnidrop: Run, checkpoint: Path, folder: Path, output: Path) -> None:
    words = ["batch", folder, "-q", "who?", "-o", output, "--model", checkpoint, "--dry-run"]
    assert omnidrop(*words).stdout.splitlines() == [f"{folder / name}\twho?" for name in ("a.mp4", "b.mp4", "c.wav")]
    assert not output.exists()
    omnidrop(*words[:-1], "--limit", "1", *SHORT)
    with AnswersFile(output):  # also next to a run that is writing
        assert len(omnidrop(*words, *SHORT).stdout.splitlines()) == 2


def test_force_keeps_the_old_answers_in_a_backup(omnidrop: Run, checkpoint: Path, folder: Path, output: Path) -> None:
    words = ["batch", folder / "c.wav", "-q", "who?", "-o", output, "--model", checkpoint, *SHORT]
    omnidrop(*words)
    before = output.read_text()
    result = omnidrop(*words, "--force")
    assert "answers.jsonl.bak-1" in result.stderr
    assert len(rows(output)) == 1
    assert output.with_name("answers.jsonl.bak-1").read_text() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "a.csv"], "answers are kept as JSON lines"),
        (["--export", "a.xlsx"], "chosen by its suffix"),
        (["--devices", "cpu", "--cluster", "local"], "give one of them|both say where"),
        (["--devices", "gpu"], "is not a device"),
        (["--workers", "2"], "of a cluster"),
        (["--option", "nonsense=1"], "nonsense"),
        (["--model", "9b"], "unknown model"),
        (["--method", "omnidorp"], "unknown method"),
        (["--keep", "2"], "keep"),
    ],
)
def test_mistakes_are_usage_errors(words: list[str], message: str, omnidrop: Run, folder: Path, output: Path, checkpoint: Path) -> None:
    result = omnidrop("batch", folder, "-q", "who?", "-o", output, "--model", checkpoint, *words)
    assert isinstance(result.exception, UsageError)
    assert re.search(message, result.exception.message)
    assert not output.exists() or not rows(output)


def test_resume_command_quotes_and_forgets_force() -> None:
    assert resume_command(["batch", "my clips", "-q", "who?", "--force"]) == "omnidrop batch 'my clips' -q 'who?'"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_from_outside(checkpoint: Path, folder: Path, output: Path) -> None:
    words = ["batch", str(folder), "-q", "who?", "-q", "what?", "-o", str(output), "--model", str(checkpoint), "--max-new-tokens", "400"]
    command = [sys.executable, "-m", "omnidrop_cli", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not (output.exists() and output.stat().st_size):
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "to go on:" in err
    assert f"omnidrop batch {folder} -q 'who?'" in err
    assert 1 <= len(rows(output)) < 6
    assert all(row["finish_reason"] != "interrupted" for row in rows(output) if "error" not in row)


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
def test_live_bar_on_a_terminal(checkpoint: Path, folder: Path, output: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "omnidrop_cli", "batch", str(folder), "-q", "who?", "-o", str(output), "--model", str(checkpoint)]
    with subprocess.Popen([*command, *SHORT], stderr=theirs, stdout=subprocess.PIPE, env={**os.environ, "TERM": "xterm"}) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # the other end is closed
            pass
        assert process.wait(timeout=60) == 3
    os.close(ours)
    text = shown.decode()
    assert "/3" in text
    assert "1 failed" in text
    assert "a.mp4" in text
    assert "\x1b[" in text
