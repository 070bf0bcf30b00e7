"""A model's words → the option it chose.

Knows: the ways a letter can be said. Does not know: which one is right, and never guesses: where no letter can be read the answer
counts as wrong and as unparsed (lmms-eval draws a random letter instead, which makes scores depend on a seed).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_QUOTES = "\"'*`“”‘’"
_OPENING = re.compile(rf"^[\s{_QUOTES}(\[<]*([A-Z])(?![A-Za-z0-9'’])", re.IGNORECASE)
_STATED = re.compile(
    rf"\b(?:answer|option|choice)\b\s*[{_QUOTES}]*\s*(?:is|would be|should be|:|=)[\s{_QUOTES}(\[]*(?:option\s+)?([A-Z])(?![A-Za-z0-9'’])",
    re.IGNORECASE,
)
_BRACKETED = re.compile(r"[(\[]([A-Z])[)\]]")
_STANDING = re.compile(r"(?<![A-Za-z0-9'’])([A-Z])(?![A-Za-z0-9'’])")
_HEDGE = re.compile(r"[\s)\]]*(?:or\b|and\b|[/,&])\s*[(\[]?[A-H](?![A-Za-z0-9'’])")
_ARTICLE = re.compile(r"\s+(?!(?:is|was|seems|because|since|as|and|or)\b)[a-z]")


def letter(answer: str, options: Sequence[str]) -> str | None:
    """The option's letter that `answer` chooses, or None.

    Tried in order: a letter at the very start; the last "the answer is C"; one bracketed letter; one capital letter standing alone;
    the text of exactly one option. "A dog" does not choose A, and "A or B" chooses neither.
    """
    text = answer.strip()
    # Options that could not be told apart when the data set was read still have their usual letters.
    valid = [option.strip()[:1].upper() for option in options] if len(options) > 1 else list("ABCD")
    for leading in (_OPENING.match(text), _last(_STATED, text)):
        if leading and leading[1].upper() in valid and not _is_article(text, leading) and not _HEDGE.match(text, leading.end(1)):
            return leading[1].upper()
    for pattern in (_BRACKETED, _STANDING):
        found = {match[1] for match in pattern.finditer(text) if match[1] in valid and not _is_article(text, match)}
        if len(found) == 1:
            return found.pop()
    quoted = [option for option in options if _contains(text, option)]
    return quoted[0].strip()[0].upper() if len(quoted) == 1 and len(options) > 1 else None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    matches = list(pattern.finditer(text))
    return matches[-1] if matches else None


def _is_article(text: str, match: re.Match[str]) -> bool:
    """The "a" of "A dog": followed by a lower-case word that does not begin a sentence about option A."""
    return match[1] in "aA" and _ARTICLE.match(text, match.end(1)) is not None


def _contains(text: str, option: str) -> bool:
    wanted = _words(re.sub(r"^[A-Za-z][.):]\s*", "", option.strip()))
    have = _words(text)
    return bool(wanted) and any(have[at : at + len(wanted)] == wanted for at in range(len(have) - len(wanted) + 1))


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text.lower()) if word not in ("a", "an", "the")]
