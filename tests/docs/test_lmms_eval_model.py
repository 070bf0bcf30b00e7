"""docs/examples/lmms_eval_model.py against lmms-eval's interface (0.7.3): the real one where it is installed, else a stand-in.

lmms-eval cannot be installed next to omnidrop by its own requirements (av<16), so the tests do not need it.
"""

from __future__ import annotations

import importlib.util
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from omnidrop_cli.media.source import BUNDLED
from tests.docs.blocks import ROOT

EXAMPLE = ROOT / "docs" / "examples" / "lmms_eval_model.py"
DEMO = str(BUNDLED / "demo.mp4")


class Interface(ABC):
    """What a model of lmms-eval must offer, and what it finds there."""

    def __init__(self) -> None:
        self.task_dict: dict[str, Any] = {}

    @abstractmethod
    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]: ...

    @abstractmethod
    def generate_until(self, requests: list[Any]) -> list[str]: ...

    @abstractmethod
    def generate_until_multi_round(self, requests: list[Any]) -> list[str]: ...


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if importlib.util.find_spec("lmms_eval") is None:
        for name in ("lmms_eval", "lmms_eval.api", "lmms_eval.api.model"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        sys.modules["lmms_eval.api.model"].lmms = Interface  # type: ignore[attr-defined]
    spec = importlib.util.spec_from_file_location("lmms_eval_model", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def request(document: int, question: str, **generation: Any) -> SimpleNamespace:
    """An `Instance` of lmms-eval, as far as a model reads it."""
    return SimpleNamespace(args=(question, generation, lambda doc: doc["media"], document, "task", "test"))


def test_it_answers_lmms_evals_requests(example: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = example.OmnidropModel(model="nano", method="omnidrop", keep=0.3, batch_size=1)
    missing = str(tmp_path / "missing.mp4")
    model.task_dict = {"task": {"test": [{"media": [DEMO]}, {"media": [missing]}, {"media": [DEMO, DEMO]}]}}
    question = "What is said while the car is shown?"
    answers = model.generate_until(
        [request(0, question, max_new_tokens=16), request(0, question, until=["ard"]), request(1, question)],
    )
    assert answers == ["garden", "g", ""]
    assert model.failed == 1
    assert missing in capsys.readouterr().err
    with pytest.raises(ValueError, match="2 inputs"):
        model.generate_until([request(2, question)])
    with pytest.raises(NotImplementedError):
        model.loglikelihood([])


def test_it_takes_lmms_evals_timing(example: ModuleType) -> None:
    assert example.OmnidropModel(model="nano").session.thinker.spec.seconds_per_grid == 1.0
    assert example.OmnidropModel(model="nano", timing="true").session.thinker.spec.seconds_per_grid is None


def test_the_method_is_the_one_asked_for(example: ModuleType) -> None:
    model = example.OmnidropModel(model="nano", method="seats", keep=0.2, max_frames=4)
    report = model.session.ask(DEMO, "What is shown?", **model.options)
    assert report.trace.method == "seats"
    assert report.trace.retention_after == pytest.approx(0.2, abs=0.01)
