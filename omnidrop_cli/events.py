"""How a running job tells the outside what it is doing.

Knows: the four things worth telling (a stage began, it advanced, text came, something is odd). Does not know terminals; the
commands hand in an observer that draws, the Python API hands in none. Imports nothing of ours.
"""

from __future__ import annotations


class Observer:
    """Ignores everything; subclasses draw. Called from the thread that runs the job."""

    def stage(self, name: str, detail: str = "") -> None:
        """A stage of the road began: fetch, decode, load, build, encode, prefill, generate."""

    def advance(self, done: float, total: float | None) -> None:
        """The current stage is at `done` of `total` (seconds, bytes, tokens; None where unknown)."""

    def detail(self, text: str) -> None:
        """How the current stage stands, in a few words: size, rate and time left of a download."""

    def text(self, piece: str) -> None:
        """The next piece of the answer, as soon as it is certain (never half a character)."""

    def warn(self, message: str) -> None:
        """Something the user should know about, in one line."""


SILENT = Observer()
