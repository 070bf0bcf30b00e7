"""Word-level alignment of two answers.

In: two texts. Out: each text as pieces marked equal or different, and the share of words on which they agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]"  # a kana or Han character is a word of its own
    r"|[^\W_]+(?:['\u2019][^\W_]+)*"  # letters and digits, with apostrophes inside
    r"|\S"  # punctuation, one mark at a time
)


@dataclass(frozen=True, slots=True)
class AlignedPiece:
    """A stretch of one answer, white space included. `equal`: the other answer has the same words there."""

    text: str
    equal: bool


@dataclass(frozen=True, slots=True)
class Alignment:
    """Two answers side by side. Joining the pieces' texts gives each answer back.

    `matched` words, counted without punctuation and case, are common to both in order; `longest` is the longer answer's count.
    """

    first: tuple[AlignedPiece, ...]
    second: tuple[AlignedPiece, ...]
    matched: int
    longest: int

    @property
    def agreement(self) -> float:
        """Matched words over the longer answer's words; 1 where neither has any."""
        return self.matched / self.longest if self.longest else 1.0


def align(first: str, second: str) -> Alignment:
    """The longest common runs of words, found by difflib, which compares without case; punctuation is aligned but not counted."""
    spans = [[match.span() for match in _WORD.finditer(text)] for text in (first, second)]
    words = [[text[start:end].casefold() for start, end in places] for text, places in zip((first, second), spans, strict=True)]
    blocks = SequenceMatcher(None, words[0], words[1], autojunk=False).get_matching_blocks()
    equal = [set[int](), set[int]()]
    for block in blocks:
        equal[0].update(range(block.a, block.a + block.size))
        equal[1].update(range(block.b, block.b + block.size))
    return Alignment(
        first=tuple(_pieces(first, spans[0], equal[0])),
        second=tuple(_pieces(second, spans[1], equal[1])),
        matched=sum(_counts(words[0][index]) for index in equal[0]),
        longest=max(sum(map(_counts, one)) for one in words),
    )


def _counts(word: str) -> bool:
    return any(character.isalnum() for character in word)


def _pieces(text: str, spans: Sequence[tuple[int, int]], equal: set[int]) -> Iterator[AlignedPiece]:
    """`text` cut where marked and unmarked words meet; white space between two marked words is marked with them."""
    start, end, state = 0, 0, True
    for index, (word_start, word_end) in enumerate(spans):
        if (index in equal) != state:
            cut = end if state is False else word_start  # white space belongs to the equal side
            if cut > start:
                yield AlignedPiece(text[start:cut], state)
            start, state = cut, index in equal
        end = word_end
    if state is False and end < len(text):
        yield AlignedPiece(text[start:end], False)
        start, state = end, True
    if start < len(text):
        yield AlignedPiece(text[start:], state)
