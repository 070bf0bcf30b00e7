"""Streams that are closed or full when the program starts, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from omnidrop_cli.commands._batch_console import BatchConsole
from omnidrop_cli.commands._options import ConsoleFlags
from tests.commands.running import environment, program

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="descriptors of POSIX")


def shell(line: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A shell's line in which `"$@"` is the program."""
    command = ["sh", "-c", line, "sh", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(), cwd=cwd, check=False)


@pytest.mark.parametrize(
    ("words", "said"), [(("ask", "clip.mp4", "-"), "the question is empty"), (("batch", "-", "-q", "x"), "- lists no clips")]
)
def test_closed_stdin_holds_nothing(words: tuple[str, ...], said: str) -> None:
    done = shell('exec "$@" <&-', *program(*words))
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_a_full_disk_under_stderr_does_not_cost_the_answer() -> None:
    done = shell('exec "$@" 2>/dev/full', *program("ask", "clip.mp4", "what?", plan={"pieces": ["fox"]}))
    assert (done.returncode, done.stdout) == (0, "fox\n")


def test_a_file_never_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """A C library prints to the descriptors 1 and 2, whatever they are."""
    code = (
        "import os\nfrom omnidrop_cli.commands._streams import prepare_streams\nprepare_streams()\n"
        "with open('answers', 'w'):\n    os.write(1, b'noise'), os.write(2, b'noise'), os.read(0, 1)"
    )
    done = shell('exec "$@" <&- >&- 2>&-', sys.executable, "-c", code, cwd=tmp_path)
    assert (done.returncode, (tmp_path / "answers").read_text()) == (0, "")


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    done = shell('cd gone && rmdir ../gone && exec "$@"', *program("methods"), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: the current folder cannot be used")


def test_a_width_of_0_is_none() -> None:
    done = shell('COLUMNS=0 exec "$@"', *program("config", "list"))
    assert "method" in done.stdout


def test_stripped_docstrings_are_named() -> None:
    done = shell('PYTHONDONTWRITEBYTECODE=1 PYTHONOPTIMIZE=2 exec "$@"', *program("ask", "demo", "What is said?", "--model", "nano"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: transformers cannot be imported under -OO" in done.stderr


def test_a_full_log_file_does_not_end_the_batch(capsys: pytest.CaptureFixture[str]) -> None:
    with BatchConsole(ConsoleFlags(), [], Path("/dev/full")) as progress:
        progress.summary("one")
        progress.summary("two")
    said = capsys.readouterr().err
    assert [said.count(text) for text in ("--log-file ends here: no space", "one", "two")] == [1, 1, 1]
