"""Failures a user can meet: one line of what happened, one of what to do, and the exit code.

`commands/_exit.py` prints them and ends the program with the code.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_PARTIAL = 3
EXIT_INTERRUPTED = 130


class OmnidropError(Exception):
    """A failure with a cause the user can act on. `hint` is one line that says what to do."""

    exit_code = EXIT_FAILED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(OmnidropError):
    """The command itself is wrong: an unknown name, a value out of range."""

    exit_code = EXIT_USAGE


class MediaError(OmnidropError):
    """A clip cannot be found, opened or decoded."""


class FetchError(OmnidropError):
    """A URL cannot be downloaded."""


class PromptError(OmnidropError):
    """The clip and the question do not make a prompt the model can take."""


class ModelError(OmnidropError):
    """A checkpoint cannot be found, read or placed on the device."""


class OutOfMemory(OmnidropError):
    """The device has too little memory for this prompt."""


class DatasetError(OmnidropError):
    """A benchmark's files are missing, cannot be fetched, or are not in their published layout."""


def summarize(error: BaseException) -> str:
    """Return what an exception says, as one line of at most 200 characters; its class name where it says nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__
