"""The script that measures on a GPU runs on a CPU with a model in miniature."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.gpu import first_run
from tests.gpu.machine import Machine

STAGES = ("environment", "ceilings", "prefill 7b 60 s", "ask 7b 60 s", "waits", "picks", "int8")


@pytest.mark.slow
def test_stages_run_on_a_cpu(tmp_path: Path) -> None:
    results = first_run.run(Machine(tiny=True, budget_s=600), tmp_path, STAGES)
    assert json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8")).keys() == results.keys()
    assert len(results) >= len(STAGES) + 2
    assert not [name for name, facts in results.items() if isinstance(facts, str) or "error" in facts]
    assert results["prefill 7b 60 s"]["omnidrop@0.3"]["mean_rows"] < results["prefill 7b 60 s"]["none"]["mean_rows"]


def test_a_stage_that_fails_leaves_its_error_and_one_without_time_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, object]:
        raise RuntimeError("no such kernel")

    stages = [first_run.Stage("broken", 0, broken), first_run.Stage("long", 1e9, broken)]
    monkeypatch.setattr(first_run, "stages", lambda _: stages)
    results = first_run.run(Machine(tiny=True, budget_s=60), tmp_path)
    assert results["broken"]["error"] == "RuntimeError: no such kernel"
    assert results["long"].startswith("skipped")
