"""Names close to a misspelt one, for the hint of an error."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], otherwise: str, *, most: int = 1) -> str:
    """A hint: "did you mean omnidrop or omnizip?" with at most `most` names that are close to `word`; `otherwise` where none is."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=most)
    return f"did you mean {' or '.join(close)}?" if close else otherwise
