"""Word-level alignment: what counts as a word, what is marked, and that no character is lost."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.report.alignment import AlignedPiece, align

BITS = ["fox ", "Fox ", "the ", ". ", "\n", "e\u0301", "\u6f22", "\u5b57", "a", "-", "\u2019"]
TEXTS = st.lists(st.sampled_from(BITS), max_size=25).map("".join)


@given(TEXTS, TEXTS)
def test_pieces_give_the_answers_back(first: str, second: str) -> None:
    aligned = align(first, second)
    assert "".join(piece.text for piece in aligned.first) == first
    assert "".join(piece.text for piece in aligned.second) == second
    assert 0 <= aligned.agreement <= 1
    assert all(left.equal != right.equal for side in (aligned.first, aligned.second) for left, right in itertools.pairwise(side))


@given(TEXTS, TEXTS)
def test_equal_pieces_hold_the_same_words(first: str, second: str) -> None:
    aligned = align(first, second)
    shared = ["".join(piece.text for piece in side if piece.equal).casefold().split() for side in (aligned.first, aligned.second)]
    assert "".join(shared[0]) == "".join(shared[1])


@pytest.mark.parametrize(
    ("first", "second", "agreement"),
    [
        ("", "", 1.0),
        ("...", "!", 1.0),
        ("A garden.", "a garden", 1.0),
        ("red", "", 0.0),
        ("The quick brown fox", "quick brown fox", 0.75),
        ("it's late", "it is late", 1 / 3),
        ("\u8fd9\u662f\u7ea2\u8272", "\u8fd9\u662f\u84dd\u8272", 0.75),
    ],
)
def test_share_of_words(first: str, second: str, agreement: float) -> None:
    assert align(first, second).agreement == pytest.approx(agreement)


def test_white_space_goes_with_what_is_equal() -> None:
    aligned = align("one two three", "one 2 three")
    assert aligned.first == (AlignedPiece("one ", True), AlignedPiece("two", False), AlignedPiece(" three", True))
    assert aligned.second == (AlignedPiece("one ", True), AlignedPiece("2", False), AlignedPiece(" three", True))
