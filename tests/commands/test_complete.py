"""What a shell offers, asked as bash asks it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from omnidrop_cli import history, paths
from omnidrop_cli.commands import _complete
from omnidrop_cli.report.json import to_dict
from tests.commands.running import run
from tests.report import samples


def offered(*words: str, cwd: Path) -> list[str]:
    """The completions of the last word."""
    asked = " ".join(["omnidrop", *words])
    done = run(cwd=cwd, _OMNIDROP_COMPLETE="complete_bash", COMP_WORDS=asked, COMP_CWORD=str(len(words)))
    assert "Traceback" not in done.err
    return done.out.split()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("hist",), ["history"]),
        (("ask", "--model", "3"), ["3b"]),
        (("ask", "--method", "omnid"), ["omnidrop"]),
        (("ask", "--method", "seats+omnid"), ["seats+omnidrop"]),
        (("ask", "--preset", "paper-2"), ["paper-20"]),
        (("ask", "--device", "cp"), ["cpu"]),
        (("ask", "--quant", "n"), ["nf4", "none"]),
        (("ask", "demo", "-o", "tal"), ["talk.mp4"]),
        (("ask", "--cookies", "fol"), [f"folder{os.sep}"]),
        (("ask", "--cookies-from-browser", "fire"), ["firefox"]),
        (("ask", "tal"), ["talk.mp4"]),
        (("ask", "dem"), ["demo", "demo2"]),
        (("batch", "-i", "tal"), ["talk.mp4"]),
        (("evaluate", "video"), ["videomme"]),
        (("cache", "clean", "fea"), ["features"]),
        (("cache", "ls", "clips", "co"), ["copies"]),
        (("history", "show", "1"), ["1"]),
        (("models", "rm", "7b-"), ["7b-nf4"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bash_is_offered(words: tuple[str, ...], expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "talk.mp4").touch()
    (tmp_path / "folder").mkdir()
    (paths.models() / "7b-nf4").mkdir(parents=True)
    history.add(to_dict(samples.report()))
    assert offered(*words, cwd=tmp_path) == expected


def test_models_are_directories_once_a_path_is_begun(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine.txt").touch()
    assert _complete.models(f"{tmp_path}{os.sep}mi") == [f"{tmp_path}{os.sep}mine{os.sep}"]


def test_gpus_are_counted_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = ["/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-uvm"]
    monkeypatch.setattr(_complete.glob, "glob", lambda _: nodes)
    assert _complete.devices("cuda") == ["cuda", "cuda:0", "cuda:1"]


def test_what_is_broken_completes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("omnidrop.toml").write_text("= no TOML")
    paths.history().parent.mkdir(parents=True)
    paths.history().write_bytes(b"no database" * 100)
    assert _complete.profiles("") == []
    assert _complete.answers("") == []
