"""The built-in benchmark through the same runner: clips made on demand, open answers judged by its own rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from omnidrop_cli.config import GenerationConfig, ModelConfig
from omnidrop_cli.engine.session import Session
from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.evaluate import benchmarks, method_specs
from omnidrop_cli.evaluate.benchmarks import nano
from omnidrop_cli.evaluate.evaluation import Run, execute, pending
from omnidrop_cli.evaluate.results import ResultsFile
from omnidrop_cli.model.random_weights import tiny_thinker


def test_questions_and_verdicts(tmp_path: Path) -> None:
    questions = nano.read(tmp_path)
    assert len(questions) > 500
    assert len({question.id for question in questions}) == len(questions)
    assert list(questions[0].labels) == ["category", "length", "needle"]
    for question in questions[:50]:
        assert nano.judge(question, f" {question.answer}. ") == (f"{question.answer}.", True)
        assert nano.judge(question, "") == (None, False)
        assert not nano.judge(question, "something else entirely")[1]


def test_clips_are_made_once_and_asked_about(tmp_path: Path) -> None:
    benchmark = benchmarks.find("nano")
    questions = benchmarks.questions(benchmark, tmp_path / "clips")[:3]
    try:
        made = Path(nano.prepare(questions[0]))
    except OmnidropError as problem:
        pytest.skip(f"this machine cannot make the clips: {problem.message}")
    written = made.stat().st_mtime_ns
    run = Run(
        benchmark,
        tuple(method_specs.parse(["none,omnidrop@0.5"])),
        ModelConfig(),
        benchmark.media_options,
        GenerationConfig(max_new_tokens=2),
    )
    with ResultsFile(tmp_path / "rows.jsonl") as results:
        execute(run, pending(run, questions, results), Session(tiny_thinker()), results)
        assert [row.error for row in results.rows.values()] == [None] * 6
    assert made.stat().st_mtime_ns == written

    def no_voices(question: object) -> str:
        raise OmnidropError("espeak-ng is not installed")

    broken = Run(replace(benchmark, prepare=no_voices), run.methods, run.model, run.media_options, run.generation)
    with ResultsFile(tmp_path / "none.jsonl") as results, pytest.raises(OmnidropError, match="espeak-ng"):
        execute(broken, pending(broken, questions, results), Session(tiny_thinker()), results)
