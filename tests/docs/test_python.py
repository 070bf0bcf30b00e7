"""The Python of the documentation runs: blocks in pages, and the examples."""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from docs.make import notebook
from omnidrop_cli.media.source import BUNDLED
from tests.docs.blocks import LOG, PAGES, ROOT, blocks

WITH_PYTHON = [page for page in PAGES if page != LOG and blocks(page, "python")]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(BUNDLED / "demo.mp4", tmp_path / "talk.mp4")
    monkeypatch.chdir(tmp_path)
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # dataclasses look their module up
    for block in blocks(page, "python"):
        if not block.title:
            exec(compile(block.text, f"{page.name}:{block.line}", "exec", dont_inherit=True), module.__dict__)


EXAMPLES = [script for script in sorted((ROOT / "docs" / "examples").glob("*.py")) if script.stem != "lmms_eval_model"]


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_an_example_runs(script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [str(script)])
    runpy.run_path(str(script), run_name="__main__")
    assert len(capsys.readouterr().out.splitlines()) >= 3


def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook.run(write=False)
