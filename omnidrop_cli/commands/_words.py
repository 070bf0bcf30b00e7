"""The words of `omnidrop ask` and `explain`: which are clips, and which is the question."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from omnidrop_cli.commands._request import STDIN
from omnidrop_cli.errors import UsageError


@dataclass(frozen=True, slots=True)
class ParsedWords:
    """What is asked about what.

    Attributes:
        media: the clips and pictures, in order.
        question: the user's words, or "-" for stdin.
        meant_quiet: `-q` was the former --quiet, as in `ask -q clip.mp4 QUESTION`.
    """

    media: tuple[str, ...]
    question: str
    meant_quiet: bool = False


def parse_words(words: Sequence[str], flagged: str | None, command: str = "ask") -> ParsedWords:
    """Sort the arguments of a command.

    Args:
        words: The arguments.
        flagged: The value of --question.
        command: Whose they are, for the examples in the errors.

    Raises:
        UsageError: no question, two, or a word that is neither; or stdin for two of them.
    """
    example = f'for example: omnidrop {command} clip.mp4 "What is said?"'
    found = _sorted(words, flagged, example)
    if stray := next((word for word in found.media[1:] if not _may_be_media(word)), None):
        raise UsageError(f"'{stray}' is no clip: no such file, address or bundled clip", f"put the question in quotes, {example}")
    if [*found.media, found.question].count(STDIN) > 1:
        what = "the clip and the question are both" if found.question == STDIN else "several clips are"
        raise UsageError(f"{what} read from stdin", "give all but one as arguments")
    return found


def _sorted(words: Sequence[str], flagged: str | None, example: str) -> ParsedWords:
    *media, last = words
    if flagged is None:
        if not media:
            raise UsageError("no question was given", example)
        if is_clip(last) and (PurePath(last).suffix or "/" in last):
            swapped = not all(map(_may_be_media, media))
            raise UsageError("the question comes after the clip" if swapped else f"no question was given: {last} is a clip too", example)
        return ParsedWords(tuple(media), last)
    if not media and is_clip(flagged) and not is_clip(last):
        return ParsedWords((flagged,), last, meant_quiet=True)
    if media and not _may_be_media(last):
        raise UsageError("the question was given twice, as an argument and with --question", "give it once")
    return ParsedWords(tuple(words), flagged)


def is_clip(name: str) -> bool:
    """Whether `name` is a URL, a file that exists, or a bundled clip."""
    from omnidrop_cli.media.source import bundled, is_url

    return is_url(name) or os.path.exists(name) or bundled(name) is not None


def _may_be_media(word: str) -> bool:
    """Whether `word` is a clip, or reads like the name of a file that is not there."""
    return word == STDIN or is_clip(word) or (not any(map(str.isspace, word)) and PurePath(word).suffix not in ("", "."))
