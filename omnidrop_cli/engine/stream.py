"""An answer as an iterator over pieces of text, for library users; the session runs in a thread meanwhile."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from omnidrop_cli.events import ProgressCallback

if TYPE_CHECKING:
    from omnidrop_cli.outputs import Report


class AnswerStream:
    """Iterates over the pieces of one answer as they become certain. `report` is set when the iteration is over."""

    def __init__(self, run: Callable[[ProgressCallback], Report]) -> None:
        """`run` answers and tells its progress to the callback it is given. It starts now."""
        self.report: Report | None = None
        self._pieces: queue.SimpleQueue[str | BaseException | None] = queue.SimpleQueue()
        self._run = run
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[str]:
        """Raises the error of the run, if it fails."""
        while (piece := self._pieces.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
        self._thread.join()

    def _work(self) -> None:
        try:
            self.report = self._run(_Pieces(self._pieces))
            self._pieces.put(None)
        except BaseException as error:  # carried to the thread that iterates
            self._pieces.put(error)


class _Pieces(ProgressCallback):
    def __init__(self, pieces: queue.SimpleQueue[str | BaseException | None]) -> None:
        self._pieces = pieces

    def text(self, piece: str) -> None:
        self._pieces.put(piece)
