"""Questions on which two methods differ: one right, the other wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

from omnidrop_cli.errors import UsageError
from omnidrop_cli.evaluate.items import Question, Row
from omnidrop_cli.evaluate.score_tables import Section
from omnidrop_cli.evaluate.summary import Answers
from omnidrop_cli.suggest import did_you_mean


@dataclass(frozen=True, slots=True)
class Flip:
    """A question that the `first` method got right and the second wrong ("lost"), or the other way round ("gained")."""

    question: str
    media: str
    text: str
    gold: str
    first: str | None
    second: str | None
    change: str


def flips(questions: Sequence[Question], answers: Answers, first: str, second: str) -> list[Flip]:
    """Every flip between two methods, lost ones first, in the benchmark's order. Raises `UsageError` for a method that did not run."""
    for name in (first, second):
        if name not in answers:
            raise UsageError(f"--flips {name}: not among --methods", did_you_mean(name, answers, f"one of {', '.join(answers)}"))
    pairs = [(question, answers[first].get(question.id), answers[second].get(question.id)) for question in questions]
    found = [_flip(question, a, b) for question, a, b in pairs if _differ(a, b) and a is not None and b is not None]
    return sorted(found, key=lambda flip: flip.change != "lost")


def to_json(found: Sequence[Flip], first: str, second: str) -> dict[str, Any]:
    """The list as a JSON document."""
    return {"schema": 1, "first": first, "second": second, "flips": [asdict(flip) for flip in found]}


def section(found: Sequence[Flip], first: str, second: str) -> Section:
    """The list as a table."""
    lost = sum(flip.change == "lost" for flip in found)
    title = f"{first} → {second}: {lost} lost, {len(found) - lost} gained"
    header = ["question", "change", "right", first, second, "clip", "text"]
    rows = [
        [flip.question, flip.change, flip.gold, flip.first or "-", flip.second or "-", PurePath(flip.media).name, flip.text]
        for flip in found
    ]
    return Section(title, header, rows, ranks={"clip": 3, "text": 4})


def _differ(a: Row | None, b: Row | None) -> bool:
    return a is not None and b is not None and a.error is None and b.error is None and a.correct != b.correct


def _flip(question: Question, a: Row, b: Row) -> Flip:
    change = "lost" if a.correct else "gained"
    return Flip(question.id, question.media, question.text, question.answer, a.prediction, b.prediction, change)
