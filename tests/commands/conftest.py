"""A program run in this process on a road that is not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from omnidrop_cli.engine import pipeline as real_road
from tests.commands.fake_pipeline import Road
from tests.commands.running import Done


@pytest.fixture
def road(monkeypatch: pytest.MonkeyPatch) -> Road:
    fake = Road(["The quick ", "brown", " fox."])
    monkeypatch.setattr(real_road, "run", fake.run)
    monkeypatch.setattr(real_road, "run_comparison", fake.run_comparison)
    return fake


@pytest.fixture
def omnidrop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """`omnidrop("ask", "clip.mp4", "what?")` runs the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str, stdin: str | None = None) -> Done:
        from omnidrop_cli.cli import build

        result = CliRunner().invoke(build(), list(arguments), input=stdin)
        return Done(result.exit_code, result.stdout, result.stderr, result.exception)

    return run
