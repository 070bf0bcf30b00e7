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


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("A is incorrect. B is correct.", "B"),
        ("(A) is wrong, so it must be C", "C"),
        ("A and C are wrong; D", "D"),
        ("A, B and C are all incorrect, so D.", "D"),
        ("A isn't right. B is.", "B"),
        ("B is not the answer. The answer is D.", "D"),
        ("Option A can be ruled out. Option C", "C"),
        ("Not B", None),
        ("not (B)", None),
        ("The answer is not A.", None),
        ("The answer is not A, it is C.", "C"),
        ("The answer isn’t A but B", "B"),
        ("It is neither A nor B", None),
        ("It is neither A nor B, but D.", "D"),
        ("I don't think it is A. B", "B"),
        ("C, not B", "C"),
        ("It is C rather than B", "C"),
        ("D instead of A", "D"),
        ("We can rule out A and B. C fits.", "C"),
        ("Wrong: A. Right: B.", "B"),
        ("The wrong options are A and D. So: B", "B"),
        ("A is incorrect", None),
        ("Not B. the cat", None),
        ("It is not a dog", None),
        ("It isn't the cat, it is a horse", "C"),
        ("A is not shown, therefore the answer is B", "B"),
        ("It cannot be A. It must be (D).", "D"),
        ("A is correct, B is incorrect", "A"),
        ("B. He does not like it", "B"),
        ("I am not sure, but C", "C"),
    ],
)
def test_negation(answer: str, expected: str | None) -> None:
    assert letter(answer, FOUR) == expected


@pytest.mark.parametrize("question", ["Which option is incorrect?", "Which is not shown?", "What isn't said?", "All are true except:"])
def test_where_the_wrong_one_is_asked_for_a_judgement_is_the_answer(question: str) -> None:
    assert letter("C is incorrect", FOUR, question) == "C"
    assert letter("The wrong option is B.", FOUR, question) == "B"
    assert letter("It is not A, it is C", FOUR, question) == "C"


REJECTIONS = ("{} is incorrect", "{} is wrong", "not {}", "it isn't {}", "({}) is not correct", "option {} can be ruled out", "rule out {}")
CHOICES = ("{} is correct", "the answer is {}", "it must be {}", "({})", "the correct option is {}")


@given(
    st.permutations("ABCD"),
    st.integers(1, 3),
    st.lists(st.sampled_from(REJECTIONS), min_size=3, max_size=3),
    st.sampled_from(CHOICES),
    st.integers(0, 3),
)
def test_rejected_letters_are_never_chosen(letters: list[str], count: int, how: list[str], chosen: str, place: int) -> None:
    parts = [text.format(name) for text, name in zip(how, letters[1 : 1 + count], strict=False)]
    assert letter(". ".join(parts), FOUR) is None, "nothing is chosen by elimination"
    parts.insert(min(place, count), chosen.format(letters[0]))
    assert letter(". ".join(parts) + ".", FOUR) == letters[0]


@given(st.sampled_from("ABCD"), st.sampled_from(("{}", "{}.", "({})", "{}) it is", "**{}**", "Answer: {}", "I choose ({}) here")))
def test_a_plain_letter_needs_no_words(name: str, how: str) -> None:
    assert letter(how.format(name), FOUR) == name


def test_letters_a_question_does_not_offer_are_unparsed() -> None:
    assert letter("D", THREE) is None
    assert letter("C", THREE) == "C"


def test_options_that_could_not_be_distinguished_keep_their_letters() -> None:
    assert letter("C", ("one unreadable line",)) == "C"


WORDS = st.lists(st.sampled_from([*"ABCDE", "not", "isn't", "is", "wrong", "or", "and", ",", ".", "(", ")", "dog", "the answer is", "…"]))


@given(WORDS.map(" ".join), st.text(max_size=20))
def test_any_sentence_about_letters_gives_one_of_them_or_none(answer: str, question: str) -> None:
    found = letter(answer, THREE, question)
    assert found is None or (found in "ABC" and (found in answer or "dog" in answer))


@given(st.text(max_size=60))
def test_whatever_is_said_gives_an_offered_letter_or_none(answer: str) -> None:
    assert letter(answer, THREE) in (None, "A", "B", "C")
