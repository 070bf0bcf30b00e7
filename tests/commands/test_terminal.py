"""Commands in a real terminal (tmux) and at every width: no line is longer than the terminal, so none wraps inside a word."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

from omnidrop_cli import history, paths
from omnidrop_cli.media.source import BUNDLED
from omnidrop_cli.report.json import to_dict
from tests.commands.running import Done, environment
from tests.report import samples
from tests.test_cache import clip, features

Run = Callable[..., Done]

COMMANDS = [
    ("models", "list"),
    ("cache", "ls"),
    ("cache", "ls", "clips"),
    ("history", "ls"),
    ("history", "show", "1"),
    ("inspect", "demo"),
    ("methods",),
    ("methods", "omnidrop"),
    ("config", "list"),
]


@pytest.fixture
def things() -> None:
    """Something for every list."""
    clip(f"https://example.org/{'a-long-name/' * 4}talk.mp4")
    features()
    history.add(to_dict(samples.report()))


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_results_fit_every_width(omnidrop: Run, things: None, words: tuple[str, ...], width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    done = omnidrop(*words)
    assert done.code == 0, done.error
    assert max(map(cell_len, done.out.splitlines())) <= width


class Terminal:
    """A shell in a tmux session of its own."""

    def __init__(self, width: int, folder: Path) -> None:
        self._tmux = ["tmux", "-f", os.devnull, "-S", str(folder / "socket")]
        variables = {name: value for name, value in environment().items() if name not in ("COLUMNS", "LINES", "TMUX")}
        self._run("new-session", "-d", "-x", str(width), "-y", "50", "-c", str(folder), "env PS1='$ ' sh", env=variables)
        self._run("set-option", "-g", "history-limit", "5000")

    def _run(self, *words: str, env: dict[str, str] | None = None) -> str:
        return subprocess.run([*self._tmux, *words], capture_output=True, text=True, check=True, env=env).stdout

    def after(self, command: str) -> list[str]:
        """The lines on the screen once `command` has ended; lines that the terminal itself had to wrap are joined again."""
        self._run("send-keys", f"clear; {command}; echo done-$?", "Enter")
        end = time.monotonic() + 120
        while time.monotonic() < end:
            lines = self._run("capture-pane", "-p", "-J").rstrip().splitlines()
            if any(line.startswith("done-") for line in lines):
                return [line.rstrip() for line in lines if not line.startswith(("$ ", "done-")) and "done-$?" not in line]
            time.sleep(0.2)
        raise TimeoutError("\n".join(lines))

    def close(self) -> None:
        self._run("kill-server")


@pytest.fixture(params=[60, 80, 120])
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Terminal, int]]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    opened = Terminal(request.param, tmp_path)
    yield opened, request.param
    opened.close()


@pytest.mark.slow
def test_an_answer_stays_in_view_and_every_line_fits(terminal: tuple[Terminal, int], things: None, tmp_path: Path) -> None:
    """ask, its table, a comparison, a batch with a broken clip, lists and an error, as a person sees them."""
    opened, width = terminal
    shutil.copy(BUNDLED / "demo.mp4", tmp_path / "demo.mp4")
    (tmp_path / "a clip with quite a long name that holds nothing at all.mp4").write_text("no clip")
    program = shlex.join([sys.executable, "-m", "omnidrop_cli"])

    asked = opened.after(f"{program} ask demo 'What is said?' --model nano")
    assert "hello music garden goodbye" in asked
    assert any(line.startswith("kept 30 %") for line in asked)
    assert len(asked) <= 5
    seen = [*asked]
    for words in (
        "ask demo 'What is said?' --model nano --table",
        "ask demo 'Is the rocket shown?' --model nano --choices 'yes,no,perhaps,nobody can tell'",
        "ask demo 'What is shown?' --model nano --compare --repeat 1",
        "batch . -q 'What is said?' --model nano",
        "cache ls",
        "cache clean --dry-run",
        "history ls",
        "ask demo 'What is said?' --model nano --max-frames 1",
    ):
        lines = opened.after(f"{program} {words}")
        assert lines, words
        seen += lines
    too_long = [line for line in seen if cell_len(line) > width]
    assert not too_long
    assert paths.features().is_dir()
