"""The methods in docs/develop/add-a-method.md are methods of at most 60 lines."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from omnidrop_cli.prune.base import Method
from tests.prune.fakes import SHAPES, run

PAGE = Path(__file__).parents[2] / "docs" / "develop" / "add-a-method.md"


NAMES = ("Norm", "NormAndCut")


@pytest.fixture(params=range(len(NAMES)), ids=NAMES)
def documented(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[Method]:
    """A method from the page, which has one Python block for each of `NAMES`."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == len(NAMES)
    assert all(len(block.splitlines()) <= 60 for block in blocks)
    module = types.ModuleType("documented_method")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look their module up
    exec(compile(blocks[request.param], str(PAGE), "exec"), module.__dict__)
    found: type[Method] = module.__dict__[NAMES[request.param]]
    return found


@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "text_only"])
@pytest.mark.parametrize("keep", [0.1, 0.5])
def test_it_meets_its_budget(documented: type[Method], shape: str, keep: float) -> None:
    tokens = SHAPES[shape]
    total = tokens.counts().media
    done = run(documented(keep=keep), tokens, 6)  # type: ignore[call-arg]  # every method with a budget takes keep
    assert abs(done.mean_after(total) - max(keep, 1 / total)) <= 1 / total


@pytest.mark.parametrize("keep", [{"keep": 1.0}, {"audio_keep": 0.5, "video_keep": 0.25}])
def test_it_takes_both_kinds_of_budget(documented: type[Method], keep: dict[str, float]) -> None:
    tokens = SHAPES["long"]
    counts = tokens.counts()
    wanted = 1.0 if "keep" in keep else (0.5 * counts.audio + 0.25 * counts.video) / counts.media
    assert run(documented(**keep), tokens, 6).mean_after(counts.media) == pytest.approx(wanted, abs=1 / counts.media)
