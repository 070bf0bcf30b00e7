"""A model's words → the option it chose.

Where no letter can be read the result is None, and the answer counts as wrong and as unparsed: nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_QUOTES = "\"'*`“”‘’"
_END = "(?![A-Za-z0-9'’])"
"""What may not follow an option's letter: it would be a word."""

_OPENING = re.compile(rf"^[\s{_QUOTES}(\[<]*([A-Z]){_END}", re.IGNORECASE)
_STATED = re.compile(
    rf"\b(?:answer|option|choice)\b\s*[{_QUOTES}]*\s*(?:is|would be|should be|:|=)[\s{_QUOTES}(\[]*(?:option\s+)?([A-Z]){_END}",
    re.IGNORECASE,
)
_BRACKETED = re.compile(r"[(\[]([A-Z])[)\]]")
_STANDING = re.compile(rf"(?<![A-Za-z0-9'’])([A-Z]){_END}")
_HEDGE = re.compile(rf"[\s)\]]*(?:or\b|and\b|[/,&])\s*[(\[]?[A-H]{_END}")
_ARTICLE = re.compile(r"\s+(?!(?:is|was|are|isn|wasn|seems|because|since|as|and|or|cannot|can)\b)[a-z]")

# ---------------------------------------------------------------- negation

_NAMED = rf"(?:(?i:options?|answers?|choices?)\s+)?[(\[{_QUOTES}]*(?<![A-Za-z0-9'’])[A-H]{_END}[)\]{_QUOTES}]*"
_LIST = rf"{_NAMED}(?:\s*(?:,|/|&|,?\s*(?i:and|or|nor))\s*(?:(?i:not|neither)\s+)?{_NAMED}){{0,7}}"
_NOT = r"(?i:\bnot|n['’]t|\bnever|\bneither|\bnor|\bcannot)"
_FILLER = r"(?i:be|is|it|it['’]s|that|the|answer|option|choice|correct|right|likely|think|believe|say|choose|pick|select|go with)"
_REJECTED = (
    rf"(?:{_NOT}\s+(?:{_FILLER}\s+){{0,5}}|(?i:\b(?:rather than|instead of|rul(?:e|es|ed|ing) out|eliminat\w+|exclud\w+|reject\w*)\s+))"
)
_ADVERB = r"(?:(?i:clearly|definitely|probably|therefore|thus|both|all|also)\s+)*"
_WRONG = r"(?i:incorrect|wrong|false|(?:ruled|eliminated) out|ruled out|eliminated|excluded|impossible)"
_RIGHT = r"(?i:(?:a |the )?(?:correct|right|true|possible)\b(?! (?:because|since))|(?:a|the) (?:answer|option|choice))"
_BE = r"(?i:is|are|was|were|seems?|looks?|(?:can|could|must|would|should) be|has been|have been)"

_BEFORE = re.compile(rf"{_REJECTED}(?P<letters>{_LIST})")
"""Rejected by what stands before: "not B", "it isn't A or C", "rather than D"."""

_CALLED_WRONG = re.compile(
    rf"(?i:\b(?:incorrect|wrong|false))(?:\s+(?i:answers?|options?|choices?|ones?))?\s*(?:(?i:is|are)|:)\s*(?P<first>{_LIST})"
    rf"|(?P<second>{_LIST})\s+(?:{_BE}\s+{_ADVERB}{_WRONG}"
    rf"|(?:{_BE}\s+(?i:not)|(?i:(?:is|are|was|were|ca)n['’]t(?: be)?|cannot be|can not be))\s+{_ADVERB}{_RIGHT})"
)
"""Rejected by a judgement: "A is incorrect", "B and C are not right", "wrong: D"."""

_ASKS_FOR_THE_WRONG_ONE = re.compile(r"\b(?:incorrect|wrong|false|untrue|not|except)\b|n['’]t\b", re.IGNORECASE)
_LETTER = re.compile(rf"(?<![A-Za-z0-9'’])[A-H]{_END}")
_MASK = "…"


def letter(answer: str, options: Sequence[str], question: str = "") -> str | None:
    """The option's letter that `answer` chooses, or None.

    Letters that the answer rejects are left out first: "A is incorrect. B is correct." chooses B, and "not B" chooses none. Then, in order:
    the last "the answer is C"; a letter at the very start; one bracketed letter; one capital letter standing alone; the text of exactly one
    option. "A dog" does not choose A, and "A or B" chooses neither. Where the `question` asks for what is wrong, "B is incorrect" is an
    answer and no rejection.
    """
    text = _without_rejected(answer.strip(), judged=not _ASKS_FOR_THE_WRONG_ONE.search(question))
    # Options that could not be distinguished when the data set was read still have their usual letters.
    valid = [option.strip()[:1].upper() for option in options] if len(options) > 1 else list("ABCD")
    for leading in (_last(_STATED, text), _OPENING.match(text)):
        if leading and leading[1].upper() in valid and not _is_article(text, leading) and not _HEDGE.match(text, leading.end(1)):
            return leading[1].upper()
    for pattern in (_BRACKETED, _STANDING):
        found = {match[1] for match in pattern.finditer(text) if match[1] in valid and not _is_article(text, match)}
        if len(found) == 1:
            return found.pop()
    rejected = _letters(answer) - _letters(text)
    quoted = [name for option in options if _contains(text, option) and (name := option.strip()[:1].upper()) not in rejected]
    return quoted[0] if len(quoted) == 1 and len(options) > 1 else None


def _without_rejected(text: str, *, judged: bool) -> str:
    """`text` with a mark in place of every letter that it rejects. With `judged`, a judgement rejects, too."""
    for pattern in (_CALLED_WRONG, _BEFORE) if judged else (_BEFORE,):
        text = pattern.sub(_masked, text)
    return text


def _masked(match: re.Match[str]) -> str:
    group = next(name for name, found in match.groupdict().items() if found is not None)
    start, end = match.start(group) - match.start(), match.end(group) - match.start()
    return match[0][:start] + _LETTER.sub(_MASK, match[group]) + match[0][end:]


def _letters(text: str) -> set[str]:
    return set(_LETTER.findall(text))


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    matches = list(pattern.finditer(text))
    return matches[-1] if matches else None


def _is_article(text: str, match: re.Match[str]) -> bool:
    """The "a" of "A dog": followed by a lower-case word that does not begin a sentence about option A."""
    return match[1] in "aA" and _ARTICLE.match(text, match.end(1)) is not None


def _contains(text: str, option: str) -> bool:
    """Whether `text` has the words of `option` without "not" before them."""
    wanted, have = _words(re.sub(r"^[A-Za-z][.):]\s*", "", option.strip())), _words(text)
    places = [at for at in range(len(have) - len(wanted) + 1) if have[at : at + len(wanted)] == wanted]
    return bool(wanted) and any(not _is_negation(have[:at]) for at in places)


def _is_negation(before: Sequence[str]) -> bool:
    """Whether the words before a phrase end in a "not"; "isn't" arrives as two words."""
    last = before[-1] if before else ""
    return last in ("not", "never", "neither", "nor", "cannot") or (last == "t" and len(before) > 1 and before[-2].endswith("n"))


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text.lower()) if word not in ("a", "an", "the")]
