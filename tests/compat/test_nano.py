"""The built-in model's answers to recorded questions, token by token, and what each method kept.

`python -m tests.compat --record` writes golden.json again, after a change of the weights, the clips or a method.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from omnidrop_cli.config import PruningConfig, Request
from omnidrop_cli.engine.session import Session

GOLDEN = Path(__file__).with_name("golden.json")

QUESTIONS = ("What is said while the car is shown?", "What is said?", "How many different pictures are shown?")
METHODS = [PruningConfig("none"), *(PruningConfig(name, 0.3) for name in ("omnidrop", "seats", "divprune", "omnizip"))]


NEAR_TIES = {("demo", QUESTIONS[2], "seats"), ("demo2", QUESTIONS[1], "seats")}
"""Two tokens are equally probable to the rounding of a torch release: 2.11 says "5" where 2.13 says "4", and "friday" for "market"."""


def answers() -> Iterator[dict[str, Any]]:
    """Ask everything."""
    from omnidrop_cli.config import ModelConfig

    session = Session.load(ModelConfig("nano", device="cpu", feature_cache=False))
    for clip in ("demo", "demo2"):
        for question in QUESTIONS:
            for method in METHODS:
                if (clip, question, method.name) in NEAR_TIES:
                    continue
                report = session.run(Request(clip, question, method=method))
                yield {
                    "clip": clip,
                    "question": question,
                    "method": method.name,
                    "answer": report.answer.text,
                    "tokens": list(report.answer.token_ids),
                    "kept": list(report.trace.kv_lengths),
                }


def record() -> None:
    """Write golden.json."""
    rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in answers())
    GOLDEN.write_text(f"[\n{rows}\n]\n", encoding="utf-8")


@pytest.fixture(scope="module")
def found() -> list[dict[str, Any]]:
    return list(answers())


def test_answers_are_those_recorded(found: list[dict[str, Any]]) -> None:
    expected = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert found == expected, "meant to change? python -m tests.compat --record"


def test_the_record_says_something(found: list[dict[str, Any]]) -> None:
    assert len({row["answer"] for row in found}) > len(QUESTIONS)
    assert all(row["tokens"] for row in found)
