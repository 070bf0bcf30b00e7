"""A tiny checkpoint for this package, and a way to run commands in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from omnidrop_cli.cli import build
from omnidrop_cli.model.random_weights import tiny_thinker
from tests.model.checkpoints import write_plain


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_plain(tiny_thinker(), tmp_path_factory.mktemp("tiny"))
    (directory / "preprocessor_config.json").write_text('{"min_pixels": 3136, "max_pixels": 12544}')
    return directory


@pytest.fixture
def folder(clips: Mapping[str, Path], tmp_path: Path) -> Path:
    """Two good clips and one that is none."""
    place = tmp_path / "clips"
    place.mkdir()
    for name, clip in {"a.mp4": "speech_video", "b.mp4": "text_mp4", "c.wav": "wav"}.items():
        shutil.copy(clips[clip], place / name)
    return place


@pytest.fixture
def omnidrop() -> Callable[..., Any]:
    """Runs a command line; the result has `exit_code`, `stdout`, `stderr`, `exception`."""

    def run(*words: object, stdin: str | None = None) -> Any:
        return CliRunner().invoke(build(), [str(word) for word in words], input=stdin)

    return run
