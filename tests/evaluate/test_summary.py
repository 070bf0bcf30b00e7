"""Rows made by hand: every figure of the tables is known."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from omnidrop_cli.config import MediaConfig
from omnidrop_cli.evaluate import score_tables, stats
from omnidrop_cli.evaluate.benchmarks.videomme import BENCHMARK
from omnidrop_cli.evaluate.items import Measured, Question, Row
from omnidrop_cli.evaluate.results import FORMAT
from omnidrop_cli.evaluate.summary import Summary, summarise

FULL = Measured(100, 80, 1.0, 1.0, 0.5, 0.2, 0.1, 900.0, 10.0, 1000, 1000)
PRUNED = Measured(100, 80, 0.35, 0.3, 0.5, 0.1, 0.1, 600.0, 4.0, 1000, 250)
MODEL = {"name": "7b|x", "quant": "nf4", "dtype": "bfloat16", "attention": "sdpa", "device": "cuda", "weights": "c0ffee"}

QUESTIONS = [Question(str(at), f"clip{at // 4}.mp4", "?", ("A. a", "B. b"), "A", {"task": "one" if at < 6 else "t|wo"}) for at in range(8)]


def row(question: Question, method: str, letter: str | None, measured: Measured) -> Row:
    return Row(
        f"{method}/{question.id}",
        "videomme",
        question.id,
        question.media,
        method,
        question.labels,
        "A",
        letter or "well",
        letter,
        letter == "A",
        measured,
        None,
        MODEL,
    )


def failed(question: Question, method: str) -> Row:
    error = {"type": "MediaError", "message": "broken", "hint": None}
    return replace(row(question, method, None, FULL), answer=None, measured=None, error=error)


@pytest.fixture
def made() -> Summary:
    # full: right on 0-5, wrong on 6, unparsed on 7. pruned: right on 4-6, wrong on 0-2, failed on 3, wrong on 7.
    full = [row(q, "none", "A" if at < 6 else "B" if at == 6 else None, FULL) for at, q in enumerate(QUESTIONS)]
    pruned = [
        failed(q, "p@0.3") if at == 3 else row(q, "p@0.3", "A" if at in (4, 5, 6) else "B", replace(PRUNED, prefill_s=0.01 * (at + 1)))
        for at, q in enumerate(QUESTIONS)
    ]
    pruned[0] = replace(pruned[0], measured=replace(PRUNED, peak_mb=700.0, prefill_s=0.01))
    answers = {"none": {r.question: r for r in full}, "p@0.3": {r.question: r for r in pruned}}
    return summarise(BENCHMARK, QUESTIONS, answers, MediaConfig(max_frames=8))


def test_methods(made: Summary) -> None:
    full, pruned = made.methods
    assert (full.score.n, full.score.correct, full.unparsed, full.errors) == (8, 6, 1, 0)
    assert (pruned.score.n, pruned.score.correct, pruned.unparsed, pruned.errors) == (7, 3, 0, 1)
    assert (full.score.low, full.score.high) == stats.wilson(6, 8)
    assert (pruned.retention_entering, pruned.retention_after) == pytest.approx((0.35, 0.3))
    assert (pruned.prefill_s, pruned.flops, pruned.peak_mb, pruned.kv_mb) == pytest.approx((0.05, 0.25, 700.0, 4.0))


def test_groups(made: Summary) -> None:
    assert [(g.label, g.value, g.scores["none"].correct, g.scores["p@0.3"].n, g.scores["p@0.3"].correct) for g in made.groups] == [
        ("task", "one", 6, 5, 2),
        ("task", "t|wo", 0, 2, 1),
    ]


def test_pairs_use_shared_questions_and_resample_clips(made: Summary) -> None:
    (pair,) = made.pairs
    assert (pair.first, pair.second, pair.n, pair.first_only, pair.second_only) == ("none", "p@0.3", 7, 3, 1)
    assert pair.difference == pytest.approx(-2 / 7)
    assert pair.p == pair.p_holm == stats.mcnemar(3, 1)
    differences = [-1.0, -1.0, -1.0, 0.0, 0.0, 1.0, 0.0]
    assert (pair.low, pair.high) == stats.paired_bootstrap(differences, ["a"] * 3 + ["b"] * 4)


def test_markdown(made: Summary) -> None:
    lines = score_tables.markdown(made).splitlines()
    assert "8 questions about 2 clips; clip before the words; 2 frames per second, at most 8." in lines
    assert "Model: 7b\\|x (nf4, bfloat16, sdpa, cuda, weights c0ffee), greedy." in lines
    assert "Failed questions are in no other figure; a rerun tries them again." in lines
    assert "| none | 8 | 75.0 [40.9, 92.9] | - | - | 12.5 | 0 | 100.0 | 100.0 | 0.200 | 1.00 | 100.0 | - | 10.0 | 900 |" in lines
    (pruned,) = [line for line in lines if line.startswith("| p@0.3 |")]
    assert pruned.startswith("| p@0.3 | 7 | 42.9 [15.8, 75.0] | -28.6 [")
    assert pruned.endswith(" | 0.625 | 0.0 | 1 | 35.0 | 30.0 | 0.050 | 0.25 | 25.0 | - | 4.0 | 700 |")
    assert "| t\\|wo | 2 | 0.0 [0.0, 65.8] | 50.0 [9.5, 90.5] |" in lines
    assert any(line.startswith("| none → p@0.3 | 7 | -28.6 [") and line.endswith("| 3 | 1 | 0.625 | 0.625 |") for line in lines)


def test_every_method_meets_the_full_model_and_the_first_of_its_budget() -> None:
    methods = ["a@0.3", "none", "b@0.3:x=1", "a@0.1", "b@0.1", "c@0.3"]
    answers = {method: {q.id: row(q, method, "A", FULL if method == "none" else PRUNED) for q in QUESTIONS} for method in methods}
    made = summarise(BENCHMARK, QUESTIONS, answers, MediaConfig())
    assert made.full == "none"
    assert [(pair.first, pair.second) for pair in made.pairs] == [
        *(("none", method) for method in methods if method != "none"),
        ("a@0.3", "b@0.3:x=1"),
        ("a@0.3", "c@0.3"),
        ("a@0.1", "b@0.1"),
    ]
    pruned_only = summarise(BENCHMARK, QUESTIONS, {method: answers[method] for method in methods if method != "none"}, MediaConfig())
    assert pruned_only.full is None
    assert [method.prefill for method in pruned_only.methods] == [None] * 5
    assert {pair.first for pair in pruned_only.pairs} == {"a@0.3", "a@0.1"}
    assert "less full" not in score_tables.markdown(pruned_only)


def test_many_methods_run_down_and_the_headline_has_a_column() -> None:
    answers = {
        method: {q.id: row(q, method, "A", FULL if method == "none" else PRUNED) for q in QUESTIONS}
        for method in ("none", "a@0.3", "b@0.3")
    }
    made = summarise(replace(BENCHMARK, headline=("task", "one")), QUESTIONS, answers, MediaConfig())
    lines = score_tables.markdown(made).splitlines()
    assert "| method | one (6) | t\\|wo (2) |" in lines
    assert "| b@0.3 | 100.0 [61.0, 100.0] | 100.0 [34.2, 100.0] |" in lines
    assert any(
        line.startswith("| method | n | accuracy % [95 %] | less full [95 %] | p (Holm) | one % [95 %] | less full") for line in lines
    )
    assert [(pair.first, pair.second, pair.n) for pair in made.headline_pairs] == [
        ("none", "a@0.3", 6),
        ("none", "b@0.3", 6),
        ("a@0.3", "b@0.3", 6),
    ]
    assert "## Pairs: one alone" in lines


def test_json_round_trip(made: Summary) -> None:
    again = json.loads(json.dumps(made.to_json(), allow_nan=False))
    assert again["schema"] == 2
    assert again["pairs"][0]["first_only"] == 3
    one = failed(QUESTIONS[0], "none")
    assert Row.from_json(json.loads(json.dumps(one.to_json()))) == one
    two = row(QUESTIONS[0], "none", "A", FULL)
    assert Row.from_json(json.loads(json.dumps(two.to_json()))) == two
    for wrong in ({}, {"schema": 3}, {"schema": 2}, {"schema": 1, "key": "x"}):
        with pytest.raises(ValueError):
            Row.from_json(wrong)


def test_rows_of_version_1_are_read() -> None:
    """They name a method `arm`."""
    one = row(QUESTIONS[0], "a@0.3", "A", PRUNED)
    old_row = {**{name: value for name, value in one.to_json().items() if name != "method"}, "arm": "a@0.3", "schema": 1}
    assert Row.from_json(json.loads(json.dumps(old_row))) == one
    assert FORMAT.decode(json.dumps(old_row).encode()) == one


def test_nothing_answered() -> None:
    answers = {"none": {"0": failed(QUESTIONS[0], "none")}, "p": {}}
    made = summarise(BENCHMARK, QUESTIONS, answers, MediaConfig())
    text = score_tables.markdown(made)
    assert "Nothing was answered." in text
    assert "| none | 0 | - | - | 1 | - | - | - | - | - | - | - |" in text
    json.dumps(made.to_json(), allow_nan=False)
