"""A file that is not there has one exit code in every command, and one line that names it."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from omnidrop_cli.cli import build
from omnidrop_cli.errors import EXIT_FAILED, OmnidropError


@pytest.mark.parametrize(
    "words",
    [
        ["ask", "gone.mp4", "who?", "--model", "nano"],
        ["chat", "gone.mp4", "--model", "nano"],
        ["inspect", "gone.mp4"],
        ["batch", "gone.mp4", "-q", "who?"],
        ["batch", "-i", "gone.jsonl"],
        ["batch", "demo", "-q", "who?", "--model", "./gone"],
        ["bench", "media", "gone.mp4"],
        ["evaluate", "avut", "--data", "gone"],
        ["ask", "demo", "who?", "--model", "./gone"],
    ],
    ids=" ".join,
)
def test_exit_code(words: list[str], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    error = CliRunner().invoke(build(), words).exception
    assert isinstance(error, OmnidropError)
    assert error.exit_code == EXIT_FAILED
    assert "gone" in error.message
    assert error.hint
