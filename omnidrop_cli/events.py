"""How a running job reports what it is doing.

A stage began, it advanced, text came, something is odd. Commands pass a `ProgressCallback` that draws. Where a library user passes none,
warnings and stages go to the logger "omnidrop" of `logging`, and nothing to stdout.
"""

from __future__ import annotations

import logging


class ProgressCallback:
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


class LoggingProgress(ProgressCallback):
    """Warnings at the level WARNING and stages at INFO, to the logger "omnidrop"."""

    def stage(self, name: str, detail: str = "") -> None:
        logging.getLogger("omnidrop").info("%s", f"{name} {detail}".strip())

    def warn(self, message: str) -> None:
        logging.getLogger("omnidrop").warning("%s", message)


SILENT = LoggingProgress()
"""What runs without a callback of its own: nothing is drawn."""


def log_to(handler: logging.Handler | None = None, level: int = logging.WARNING) -> None:
    """Send what is logged to "omnidrop" to `handler` alone; without one, nowhere (Python writes it to stderr by default)."""
    logger = logging.getLogger("omnidrop")
    logger.handlers, logger.propagate = [handler or logging.NullHandler()], False
    logger.setLevel(level)
