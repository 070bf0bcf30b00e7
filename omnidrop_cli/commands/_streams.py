"""stdin, stdout and stderr as the commands need them, whatever the program was started with."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_LOST = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""A full disk, a terminal that was closed. A pipe that nobody reads is no such case: it ends the program."""


class _Messages(io.TextIOWrapper):
    """stderr whose text is dropped where it cannot be kept: neither an answer nor a batch of hours fails with its messages."""

    def write(self, text: str) -> int:
        with _dropped():
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with _dropped():
            super().flush()


def prepare_streams() -> None:
    """Fill closed streams, and let none of them fail on characters or lost messages. A terminal of no width has none."""
    for size in ("COLUMNS", "LINES"):  # some editors and containers set 0, and tables would be empty
        if not os.environ.get(size, "").strip().lstrip("0"):
            os.environ.pop(size, None)
    for descriptor in range(3):
        _open_if_closed(descriptor)
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115  # open as long as the program
    own = sys.__stderr__
    if own is not None and sys.stderr is own:
        sys.stderr = _Messages(own.buffer, own.encoding, "replace", line_buffering=True)
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace"), (sys.stderr, "replace")):
        if isinstance(stream, io.TextIOWrapper):  # names may be any bytes; an answer in any script must not fail on a narrow encoding
            stream.reconfigure(errors=errors)


def _open_if_closed(descriptor: int) -> None:
    """Give the null device a closed descriptor: the next file that is opened would get it, and with it what C libraries print."""
    try:
        os.fstat(descriptor)
    except OSError:
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free


@contextmanager
def _dropped() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _LOST:
            raise
