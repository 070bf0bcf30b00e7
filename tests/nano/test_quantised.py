"""The built-in model in 4 bit says on the bundled clips what it says in full precision."""

from __future__ import annotations

import pytest

from omnidrop_cli.engine.session import Session
from omnidrop_cli.nano.demo import QUESTIONS
from omnidrop_cli.records import Job, MethodChoice, ModelChoice


def answers(session: Session, method: MethodChoice) -> list[str]:
    return [session.ask(Job(question.clip, question.question, method=method)).answer.text for question in QUESTIONS]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nf4_agrees_with_full_precision(dtype: str) -> None:
    """Unpruned, every answer; pruned, those that are right (a wrong one is a near tie, and coarser weights may tip it)."""
    exact = Session.load(ModelChoice("nano", quant="none", dtype="float32"))
    coarse = Session.load(ModelChoice("nano", quant="nf4", dtype=dtype))
    full, pruned = MethodChoice("none"), MethodChoice("omnidrop", 0.3)
    assert answers(coarse, full) == answers(exact, full)
    expected, found = answers(exact, pruned), answers(coarse, pruned)
    right = [number for number, question in enumerate(QUESTIONS) if expected[number] == question.answer]
    assert len(right) >= 3
    assert [found[number] for number in right] == [expected[number] for number in right]
    assert sum(a == b for a, b in zip(expected, found, strict=True)) >= 0.75 * len(QUESTIONS)
