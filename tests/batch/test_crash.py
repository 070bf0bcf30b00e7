"""A clip that crashes the decoder is one row with an error: the others are answered, and the next run leaves it out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.clips import Clips

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture
def folder(clips: Clips, tmp_path: Path) -> Path:
    """A good clip before, between and after two that crash."""
    place = tmp_path / "clips"
    place.mkdir()
    for name in ("a.wav", "segfault1.wav", "segfault2.wav", "t.wav"):
        shutil.copy(clips["wav"], place / name)
    with (place / "t.wav").open("ab") as file:
        file.write(b"\0" * 64)
    return place


def batch(folder: Path, output: Path, checkpoint: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "omnidrop_cli", "batch", str(folder), "-q", "who?", "-q", "what?", "-o", str(output)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests/batch/crashing"), str(ROOT)])}
    command += ["--model", str(checkpoint), "--max-new-tokens", "3", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("devices", [(), ("--devices", "cpu,cpu")], ids=["here", "apart"])
def test_every_question_has_its_row(devices: tuple[str, ...], folder: Path, checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    done = batch(folder, output, checkpoint, *devices)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    counts = Counter((Path(row["media"]["asked"]).name, "error" in row) for row in rows(output))
    assert counts == {("a.wav", False): 2, ("segfault1.wav", True): 2, ("segfault2.wav", True): 2, ("t.wav", False): 2}
    errors = [row["error"] for row in rows(output) if "error" in row]
    assert all("crashes the decoder (killed by SIGSEGV)" in error["message"] for error in errors)

    again = batch(folder, output, checkpoint, *devices)
    assert "crashes the decoder" not in again.stderr
    assert len(rows(output)) == 8
    retried = batch(folder, output, checkpoint, *devices, "--retry-failed")
    assert len(rows(output)) == 12
    assert retried.returncode == 3
