"""The nano benchmark is fixed, true and fairly scored."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.nano.world import benchmark
from omnidrop_cli.nano.world.questions import CATEGORIES, ask
from omnidrop_cli.nano.world.timeline import Profile
from omnidrop_cli.nano.world.voices import voices


def test_there_are_a_thousand_questions_of_every_category_and_length() -> None:
    questions = benchmark.questions()
    assert len(questions) >= 1000
    assert len({q.id for q in questions}) == len(questions)
    counts = Counter(q.category for q in questions)
    assert set(counts) == {*CATEGORIES.values(), "choice"}
    assert min(counts.values()) >= 40
    assert {q.duration_s for q in questions} == {4, 6, 10, 15, 20, 30, 60}
    assert sum(q.needle for q in questions) >= 250
    assert set(Counter(q.style for q in questions)) == {"", "videomme", "worldsense", "avut", "dailyomni"}


def test_clips_use_what_training_never_did() -> None:
    everyone = voices()
    for name in sorted({q.clip for q in benchmark.questions()}):
        timeline = benchmark.clip_timeline(name)
        assert timeline.look >= benchmark.FIRST_LOOK
        assert timeline.look > Profile().looks[1] - 1
        assert all(everyone[word.voice].held_out for word in timeline.words)


def test_stored_answers_still_follow_from_the_stored_timelines() -> None:
    """Guards the recipe against edits, and the questions' code against silent changes of meaning."""
    steady = {"said", "said first", "said last", "shown", "count words", "count shown", "speech", "number"}
    checked = 0
    for question in benchmark.questions():
        if question.kind in steady and not question.style:
            for seed in range(6):  # some kinds are asked by chance
                truth = {q.kind: q.answer for q in ask(benchmark.clip_timeline(question.clip), np.random.default_rng(seed))}
                if question.kind in truth:
                    assert truth[question.kind] == question.answer, question.id
                    checked += 1
                    break
    assert checked > 200


def test_a_recipe_is_reproducible(tmp_path: Path) -> None:
    benchmark.write_recipe(tmp_path / "a.jsonl", [120])
    benchmark.write_recipe(tmp_path / "b.jsonl", [120])
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def _question(scoring: str, answer: str) -> benchmark.BenchQuestion:
    return benchmark.BenchQuestion("x", "x", "list", "shown", False, 4.0, "?", answer, scoring)


@pytest.mark.parametrize(
    ("scoring", "answer", "given", "right"),
    [
        ("exact", "river money", "River money.", True),
        ("exact", "river money", "money river", False),
        ("set", "dog, red circle", "red circle, dog", True),
        ("set", "dog, red circle", "dog", False),
        ("set", "dog, dog", "dog", False),
        ("letter", "B", "B. dog", True),
        ("letter", "B", "The best answer is: B", True),
        ("letter", "B", "dog", False),
        ("letter", "A", "B or A", False),
        ("exact", "yes", "", False),
    ],
)
def test_scoring(scoring: str, answer: str, given: str, right: bool) -> None:
    assert benchmark.is_right(_question(scoring, answer), given) is right


def test_perfect_and_blind_answers_bracket_the_table() -> None:
    questions = benchmark.questions()
    perfect = benchmark.tally((q, q.answer) for q in questions)
    assert perfect[-1].group == "all"
    assert all(row.accuracy == 1.0 and row.high == pytest.approx(1.0) for row in perfect)
    assert all(0.05 < row.blind < 0.65 for row in perfect)
    assert sum(row.asked for row in perfect if row.group in {q.category for q in questions}) == len(questions)
    silent = benchmark.tally((q, "") for q in questions)
    assert silent[-1].right == 0


def test_unknown_clip_is_named() -> None:
    with pytest.raises(OmnidropError, match="no clip 'nope'"):
        benchmark.clip_timeline("nope")
