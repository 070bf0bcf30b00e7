"""A program run in this process on a pipeline that is not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from omnidrop_cli.engine import pipeline as real_pipeline
from tests.commands.fake_pipeline import FakePipeline
from tests.commands.running import Done


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    fake = FakePipeline(["The quick ", "brown", " fox."])
    monkeypatch.setattr(real_pipeline, "run", fake.run)
    monkeypatch.setattr(real_pipeline, "run_comparison", fake.run_comparison)
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
