"""The self-check of transformers versions: tested ones pass at once, others are tried, and one that differs ends in one line."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from omnidrop_cli import paths
from omnidrop_cli.config import ModelConfig
from omnidrop_cli.errors import ModelError
from omnidrop_cli.events import ProgressCallback
from omnidrop_cli.model import load as load_module
from omnidrop_cli.model import self_check
from omnidrop_cli.model.load import load
from omnidrop_cli.model.self_check import TESTED, Verdict, known_verdict, require_transformers, run_check
from tests.clips import Clips
from tests.commands.running import environment, program
from tests.compat.future import BREAKS, HARMLESS

FUTURE = "5.99.0"


class Lines(ProgressCallback):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture
def future(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers says that it is a version nobody has tested."""
    monkeypatch.setattr(self_check, "_installed", lambda: FUTURE)


def test_this_version_passes_every_probe() -> None:
    verdict = run_check()
    assert verdict.failed is None
    assert verdict.seconds < 10  # 0.2 s on a machine with nothing else to do


@pytest.mark.parametrize("version", TESTED)
def test_tested_versions_are_not_checked(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "_installed", lambda: version)
    monkeypatch.setattr(self_check, "run_check", lambda: pytest.fail("checked"))
    require_transformers()
    assert known_verdict() == Verdict(version, tested=True)


@pytest.mark.usefixtures("future")
def test_an_untested_version_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert known_verdict() is None
    lines = Lines()
    require_transformers(lines)
    assert len(lines.lines) == 1
    assert FUTURE in lines.lines[0]
    monkeypatch.setattr(self_check, "run_check", lambda: pytest.fail("checked again"))
    require_transformers(lines)
    assert len(lines.lines) == 1
    found = known_verdict()
    assert found is not None
    assert found.failed is None


@pytest.mark.parametrize("change", HARMLESS)
@pytest.mark.usefixtures("future")
def test_harmless_changes_pass(change: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch)
    assert run_check().failed is None


@pytest.mark.parametrize("change", BREAKS)
@pytest.mark.usefixtures("future")
def test_breaking_changes_are_found(change: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch)
    monkeypatch.setattr(load_module, "open_checkpoint", lambda *_: pytest.fail("weights are looked for"))
    for _ in range(2):  # found, then remembered
        with pytest.raises(ModelError, match=f"probe '{BREAKS[change]}'") as caught:
            load(ModelConfig("nano", device="cpu"))
        assert "\n" not in caught.value.message
        assert "pip install" in (caught.value.hint or "")
        assert all(version in (caught.value.hint or "") for version in TESTED)
    assert len(json.loads(paths.self_checks().read_text())) == 1


@pytest.mark.usefixtures("future")
@pytest.mark.parametrize("content", ["", "[]", '{"5.99.0 x": 1}', "[" * 100_000, "folder"])
def test_a_damaged_record_is_made_again(content: str) -> None:
    path = paths.self_checks()
    if content == "folder":
        path.mkdir(parents=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    lines = Lines()
    require_transformers(lines)
    assert len(lines.lines) == 1


def overlay(folder: Path, version: str, init: str) -> str:
    """A folder on the import path in which transformers is another version."""
    information = folder / f"transformers-{version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: transformers\nVersion: {version}\n")
    (folder / "transformers").mkdir()
    (folder / "transformers" / "__init__.py").write_text(init)
    return os.pathsep.join((str(folder), environment()["PYTHONPATH"]))


@pytest.mark.parametrize(
    ("version", "init", "words"),
    [
        ("4.57.1", "raise SystemError('imported')", "older than"),
        ("5.99.0", "raise RuntimeError('operator torchvision::nms does not exist')", "operator torchvision::nms does not exist"),
        ("5.99.0", "", "probe 'import'"),
    ],
)
def test_a_process_says_one_line(version: str, init: str, words: str, clips: Clips, tmp_path: Path) -> None:
    command = program("ask", str(clips["speech_video"]), "What is said?", "--model", "nano", "--no-table")
    variables = {**environment(), "PYTHONPATH": overlay(tmp_path, version, init)}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False, timeout=240)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "this is a bug" not in done.stderr
    error = next(line for line in done.stderr.splitlines() if line.startswith("error"))
    assert version in error
    assert "pip install" in done.stderr
