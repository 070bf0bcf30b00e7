"""What child processes are asked to do in tests. Imports nothing heavy: every child loads this module."""

from __future__ import annotations

import os

from omnidrop_cli.bench.subprocess_run import Tell, Unavailable, Work
from omnidrop_cli.errors import MediaError


def allocating(megabytes: int) -> Work:
    """Holds so much memory, every page of it written."""

    def work() -> Tell:
        held = bytearray(megabytes * 10**6)
        held[::4096] = b"x" * len(held[::4096])
        return lambda: {"held": len(held), "pid": os.getpid(), "other_peak_mb": 1000.0}

    return work


def failing(how: str) -> Work:
    """Fails while preparing or while working."""
    if how == "absent":
        raise Unavailable("not installed")
    if how == "killed":
        os.abort()

    def work() -> Tell:
        raise {"memory": MemoryError(), "ours": MediaError("no clip"), "other": ValueError("bad\nvalue")}[how]

    return work
