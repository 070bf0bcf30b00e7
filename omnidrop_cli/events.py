"""How a running job reports what it is doing.

A stage began, it advanced, text came, something is odd. Commands pass an observer that draws; without one nothing is shown, and warnings
go to `logging`.
"""

from __future__ import annotations


class Observer:
    """Ignores everything; subclasses draw. Called from the thread that runs the job."""

    def stage(self, name: str, detail: str = "") -> None:
        """A stage of the pipeline began: fetch, decode, load, build, encode, prefill, generate."""

    def advance(self, done: float, total: float | None) -> None:
        """The current stage is at `done` of `total` (seconds, bytes, tokens; None where unknown)."""

    def detail(self, text: str) -> None:
        """How the current stage stands, in a few words: size, rate and time left of a download."""

    def text(self, piece: str) -> None:
        """The next piece of the answer, as soon as it is certain (never half a character)."""

    def warn(self, message: str) -> None:
        """Something the user should know about, in one line."""


SILENT = Observer()
