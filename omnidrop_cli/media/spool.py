"""A clip on stdin becomes a file: it is read several times and out of order, which a pipe forbids."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from omnidrop_cli import fileio, paths
from omnidrop_cli.errors import MediaError, OmnidropError, UsageError
from omnidrop_cli.media.download import MAX_BYTES

_PIECE = 1 << 20


@contextmanager
def spooled(media: str, limit: int = MAX_BYTES) -> Iterator[str]:
    """The name of a file that holds `media`: a copy of stdin in the cache while the block runs, where it is "-"; else its own.

    Errors of the block name stdin, not the copy. A copy that a killed process left is removed by the next one.

    Raises:
        UsageError: stdin is a terminal, or closed.
        MediaError: stdin is empty, or holds more than `limit` bytes.
    """
    if media != "-":
        yield media
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("- reads the clip from stdin, and nothing is piped into it", "for example: cat clip.mp4 | omnidrop ask - QUESTION")
    with fileio.temporary(paths.downloads() / "stdin") as copy:
        _copy(sys.stdin.buffer, copy, limit)
        try:
            yield str(copy)
        except OmnidropError as error:
            raise type(error)(error.message.replace(str(copy), "the clip on stdin"), error.hint) from error


def _copy(stream: BinaryIO, target: Path, limit: int) -> None:
    size = 0
    try:
        with target.open("wb") as file:
            while piece := stream.read(_PIECE):
                size += len(piece)
                if size > limit:
                    raise MediaError(f"the clip on stdin is larger than {limit / 1e9:g} GB", "save it to a file and give its name")
                file.write(piece)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise MediaError(
            f"the clip on stdin cannot be kept in {target.parent} ({reason})", "save it to a file and give its name"
        ) from error
    if not size:
        raise MediaError("the clip on stdin is empty", "did the program before the pipe fail?")
