"""Ctrl-C and SIGTERM: finish the question in work, then stop.

Outside `finishing` a signal stops at once; inside, the first one waits for the end of the block and the second stops at once. Both arrive
as `KeyboardInterrupt`.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


class Interrupt:
    """Takes over both signals inside a `with` block; does nothing in threads other than the main one."""

    def __init__(self, on_wait: Callable[[], None] = lambda: None) -> None:
        """`on_wait` is called when a signal came and the block in work is being finished."""
        self.requested = False
        self._finishing = False
        self._on_wait = on_wait
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """A block that one signal does not break."""
        self._finishing = True
        try:
            yield
        finally:
            self._finishing = False
        if self.requested:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.requested = self.requested, True
        if again or not self._finishing:
            raise KeyboardInterrupt
        self._on_wait()
