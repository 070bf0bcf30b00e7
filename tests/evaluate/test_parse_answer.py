"""Letters as models say them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.evaluate.parse_answer import letter

FOUR = ("A. a dog", "B. the cat", "C. a horse", "D. no animal")
THREE = FOUR[:3]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("B", "B"),
        ("b", "B"),
        ("a", "A"),
        ("B.", "B"),
        (" (C) ", "C"),
        ("[D]", "D"),
        ("**B**", "B"),
        ('"A"', "A"),
        ("C. a horse", "C"),
        ("C) a horse", "C"),
        ("A: a dog", "A"),
        ("D\nbecause nothing is there", "D"),
        ("The best answer is B.", "B"),
        ("The answer is: (C)", "C"),
        ("**Answer:** B", "B"),
        ("Answer: option D", "D"),
        ("The correct option is A.", "A"),
        ("Option A shows a dog, so the answer is B", "B"),
        ("First I thought the answer is A, but the answer is C.", "C"),
        ("A is correct", "A"),
        ("I choose (C) here", "C"),
        ("It must be B", "B"),
        ("A dog is seen, therefore C", "C"),
        ("the cat", "B"),
        ("There is a horse in it.", "C"),
        ("A, I think", "A"),
        ("A dog", "A"),
        ("A dog runs", "A"),
    ],
)
def test_read(answer: str, expected: str) -> None:
    assert letter(answer, FOUR) == expected


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "   ",
        "E",
        "I do not know",
        "Because",
        "A cow",
        "A bird is shown",
        "Either B or C",
        "(A) or (B)",
        "A or B",
        "The answer is B, C",
        "the cat and a horse",
        "Don't",
        "A's",
        "42",
    ],
)
def test_unparsed(answer: str) -> None:
    assert letter(answer, FOUR) is None


def test_letters_a_question_does_not_offer_are_unparsed() -> None:
    assert letter("D", THREE) is None
    assert letter("C", THREE) == "C"


def test_options_that_could_not_be_told_apart_keep_their_letters() -> None:
    assert letter("C", ("one unreadable line",)) == "C"


@given(st.text(max_size=60))
def test_whatever_is_said_gives_an_offered_letter_or_none(answer: str) -> None:
    assert letter(answer, THREE) in (None, "A", "B", "C")
