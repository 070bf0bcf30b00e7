"""Several processes: the same answers as one, and a clear line where one dies."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from omnidrop_cli.config import GenerationConfig, ModelConfig
from omnidrop_cli.engine.session import Session
from omnidrop_cli.errors import ModelError, UsageError
from omnidrop_cli.evaluate import evaluation, method_specs, processes
from omnidrop_cli.evaluate.benchmarks import BENCHMARKS, avut
from omnidrop_cli.evaluate.evaluation import Run, pending
from omnidrop_cli.evaluate.items import Benchmark, Question, Row
from omnidrop_cli.evaluate.results import ResultsFile, load
from tests.clips import Clips
from tests.evaluate import datasets


def killed(question: Question) -> str:
    """A clip whose making kills the process that makes it, as the system does for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    return question.media


def make_run(benchmark: Benchmark = avut.BENCHMARK) -> Run:
    return Run(
        benchmark,
        tuple(method_specs.parse(["none,omnidrop@0.5"])),
        ModelConfig("nano", feature_cache=False),
        replace(benchmark.media_options, max_frames=4),
        GenerationConfig(max_new_tokens=3),
    )


def answers(rows: dict[str, Row]) -> dict[str, tuple[str | None, object, object]]:
    return {key: (row.answer, row.error, row.model) for key, row in rows.items()}


def test_what_a_worker_gets_can_be_sent() -> None:
    for benchmark in BENCHMARKS.values():
        assert pickle.loads(pickle.dumps(benchmark)) == benchmark


def test_two_workers_write_what_one_process_does(tmp_path: Path, clips: Clips) -> None:
    questions, run = avut.read(datasets.avut(tmp_path / "data", clips)), make_run()
    with ResultsFile(tmp_path / "one.jsonl") as results:
        evaluation.execute(run, pending(run, questions, results), Session.load(run.model), results)
    seen: list[Row] = []
    with ResultsFile(tmp_path / "two.jsonl") as results:
        processes.execute(run, pending(run, questions, results), ["cpu", "cpu"], results, seen.append)
        assert not pending(run, questions, results)
    assert answers(load(tmp_path / "two.jsonl")) == answers(load(tmp_path / "one.jsonl"))
    assert len(seen) == len(questions) * 2

    foreign = replace(next(iter(load(tmp_path / "two.jsonl").values())), key="k", model={"name": "another"})
    with ResultsFile(tmp_path / "two.jsonl") as results:
        results.add(foreign)
        more = replace(run, methods=tuple(method_specs.parse(["random@0.5"])))
        with pytest.raises(UsageError, match="rows of another"):
            processes.execute(more, pending(more, questions, results), ["cpu"], results)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_dead_worker_ends_the_run(tmp_path: Path, clips: Clips) -> None:
    questions = avut.read(datasets.avut(tmp_path / "data", clips))
    run = make_run(replace(avut.BENCHMARK, prepare=killed))
    with ResultsFile(tmp_path / "rows.jsonl") as results, pytest.raises(ModelError, match=r"the worker on cpu (ended with|killed by) "):
        processes.execute(run, pending(run, questions, results), ["cpu"], results)
