"""The script that measures on a GPU runs on a CPU with a model in miniature."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from docs.make.gpu_tables import KINDS
from omnidrop_cli.prune.methods import names
from tests.gpu import first_run
from tests.gpu.machine import Machine

STAGES = (
    "environment",
    "ceilings",
    "prefill 7b 60 s",
    "decoding 3b",
    "lookup",
    "heads",
    "ask 7b 60 s",
    "auto",
    "flash",
    "waits",
    "picks",
    "int8",
)


@pytest.mark.slow
def test_stages_run_on_a_cpu(tmp_path: Path) -> None:
    results = first_run.run(Machine(tiny=True, budget_s=600), tmp_path, STAGES)
    assert json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8")).keys() == results.keys()
    assert len(results) >= len(STAGES) + 2
    assert not [name for name, facts in results.items() if isinstance(facts, str) or "error" in facts]
    assert results["prefill 7b 60 s"]["omnidrop@0.3"]["mean_rows"] < results["prefill 7b 60 s"]["none"]["mean_rows"]
    answer = results["lookup 7b 60 s"]["lookup, answer known"]
    assert answer["same"] == answer["of"] == 96
    assert answer["accepted"] > 60
    assert results["heads"]["nf4"]["top1"] < results["heads"]["int8"]["top1"] < 1
    assert results["auto"]["12 GB"]["10 min, none"].startswith("3b")
    tables = {
        kind: table({**results, "environment": {**results["environment"], "gpu": "none", "cuda": "none"}}) for kind, table in KINDS.items()
    }
    assert all(rows(tables[kind]) for kind in ("prefill", "selection", "decoding", "floors", "lookup", "heads", "answers", "auto")), tables
    methods = {line.split("|")[2].strip().partition("@")[0] for line in tables["selection"].splitlines()[2:]}
    assert methods == set(names()) - {"none"}


def rows(table: str) -> list[str]:
    return [line for line in table.splitlines()[2:] if line.startswith("| ")]


def test_tables_of_an_unfinished_run() -> None:
    results = {"prefill 7b 60 s": {"error": "broken"}, "decoding 7b 60 s": "skipped, 3 s were left", "flash_attn": {"installed": None}}
    assert not any(rows(table(results)) for kind, table in KINDS.items() if kind != "machine")


def test_a_stage_that_fails_leaves_its_error_and_one_without_time_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, object]:
        raise RuntimeError("no such kernel")

    stages = [first_run.Stage("broken", 0, broken), first_run.Stage("long", 1e9, broken)]
    monkeypatch.setattr(first_run, "stages", lambda _: stages)
    results = first_run.run(Machine(tiny=True, budget_s=60), tmp_path)
    assert results["broken"]["error"] == "RuntimeError: no such kernel"
    assert results["long"].startswith("skipped")
