"""The method in docs/develop/add-a-method.md is a method."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from omnidrop_cli.prune.base import Method
from tests.prune.fakes import SHAPES, run

PAGE = Path(__file__).parents[2] / "docs" / "develop" / "add-a-method.md"


@pytest.fixture
def norm(monkeypatch: pytest.MonkeyPatch) -> type[Method]:
    block = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block is not None
    module = types.ModuleType("documented_method")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look their module up
    exec(compile(block[1], str(PAGE), "exec"), module.__dict__)
    found: type[Method] = module.__dict__["Norm"]
    return found


@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "text_only"])
@pytest.mark.parametrize("keep", [0.1, 0.5])
def test_it_meets_its_budget(norm: type[Method], shape: str, keep: float) -> None:
    tokens = SHAPES[shape]
    total = tokens.counts().media
    done = run(norm(keep=keep), tokens, 6)  # type: ignore[call-arg]  # every method with a budget takes keep
    assert abs(done.mean_after(total) - max(keep, 1 / total)) <= 1 / total
