"""Multiple choice in the wordings of Video-MME, WorldSense, AVUT and Daily-Omni (the benchmarks' own scripts).

The options are in random order, so a letter says nothing by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from omnidrop_cli.nano.world.questions import WorldQuestion

LETTERS = "ABCD"

VIDEOMME_HEAD = (
    "Select the best answer to the following multiple-choice question based on the video. "
    "Respond with only the letter (A, B, C, or D) of the correct option.\n"
)
VIDEOMME_TAIL = "\nThe best answer is:"
WORLDSENSE_MIDDLE = "\nOptions:\n"
WORLDSENSE_TAIL = "\nAnswer with the option's letter from the given choices directly."
DAILYOMNI_HEAD = (
    "\nYour task is to accurately answer multiple-choice questions based on the given video.\n"
    "Select the single most accurate answer from the given choices.\nQuestion: "
)
DAILYOMNI_TAIL = "\nYour answer should be a capital letter representing your choice: A, B, C, or D. Don't generate any other text.\n"

STYLES = ("videomme", "worldsense", "avut", "dailyomni")
"""AVUT is asked in WorldSense's wording (as OmniZip does)."""


def can_choose(question: WorldQuestion) -> bool:
    """True where there are three wrong answers to choose from."""
    return len(set(question.options) - {question.answer}) >= len(LETTERS) - 1


def as_choice(question: WorldQuestion, style: str, rng: np.random.Generator) -> WorldQuestion:
    """The same question with four options; its answer is the letter. Raises `ValueError` where it has too few options."""
    wrong = sorted(set(question.options) - {question.answer})
    if len(wrong) < len(LETTERS) - 1:
        raise ValueError(f"{question.text!r} has only {len(wrong)} wrong answers to offer")
    picked = [wrong[i] for i in rng.permutation(len(wrong))[: len(LETTERS) - 1]]
    place = int(rng.integers(len(LETTERS)))
    picked.insert(place, question.answer)
    return replace(
        question, category="choice", text=word(question.text, picked, style), answer=LETTERS[place], options=tuple(picked), style=style
    )


def word(question: str, options: Sequence[str], style: str) -> str:
    """The benchmark's exact prompt. Raises `ValueError` for an unknown style."""
    lettered = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    if style == "videomme":
        return VIDEOMME_HEAD + question + "\n" + "\n".join(lettered) + VIDEOMME_TAIL
    if style in ("worldsense", "avut"):
        return question + WORLDSENSE_MIDDLE + "\n".join(lettered) + WORLDSENSE_TAIL
    if style == "dailyomni":
        return f"{DAILYOMNI_HEAD}{question}\nChoices: {lettered}{DAILYOMNI_TAIL}"
    raise ValueError(f"unknown style {style!r}; known: {', '.join(STYLES)}")
