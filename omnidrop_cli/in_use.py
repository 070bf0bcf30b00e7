"""Shared locks on files and folders that a running process reads, so that cleaning up never takes them away from it.

A lock ends with its process, however that ends. File systems and platforms without shared locks have none; Windows itself refuses to
delete a file that is open.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_kept: dict[Path, int] = {}


@contextmanager
def in_use(path: Path) -> Iterator[None]:
    """A block in which other processes see that `path` is in use. Nothing happens where it cannot be opened."""
    descriptor = _lock(path, exclusive=False)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def keep_in_use(path: Path) -> None:
    """Mark `path` as in use until this process ends."""
    path = path.absolute()
    if path not in _kept and (descriptor := _lock(path, exclusive=False)) is not None:
        _kept[path] = descriptor


def is_in_use(path: Path) -> bool:
    """Whether a process, this one included, has marked `path`."""
    try:
        descriptor = _lock(path, exclusive=True)
    except BlockingIOError:
        return True
    if descriptor is not None:
        os.close(descriptor)
    return False


def _lock(path: Path, *, exclusive: bool) -> int | None:
    """A descriptor that holds the lock; None where there can be none.

    Raises:
        BlockingIOError: `exclusive`, and a process has marked the path.
    """
    if sys.platform == "win32":
        return None
    import fcntl

    descriptor = None
    try:
        descriptor = os.open(path, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        if exclusive and error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise BlockingIOError(errno.EWOULDBLOCK, "in use", str(path)) from None
        return None
    return descriptor
