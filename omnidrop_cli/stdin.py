"""What is piped into the program, as text up to a length; a program before the pipe may write for ever."""

from __future__ import annotations

import sys

from omnidrop_cli.errors import UsageError


def read_stdin(limit: int) -> str:
    """Everything on stdin, without a byte order mark; nothing where it is closed. Bytes that are no text are lone surrogates.

    Args:
        limit: the most characters.

    Raises:
        UsageError: there are more.
    """
    return _within(sys.stdin.read(limit + 1), limit).removeprefix("\ufeff") if sys.stdin is not None else ""


def read_line(limit: int) -> str | None:
    """The next line of stdin with its newline; None at the end. Raises `UsageError` for a line of more than `limit` characters."""
    return (_within(sys.stdin.readline(limit + 1), limit) or None) if sys.stdin is not None else None


def _within(text: str, limit: int) -> str:
    if len(text) > limit:
        raise UsageError(f"more than {limit:,} characters came on stdin at once", "does the program before the pipe have an end?")
    return text
