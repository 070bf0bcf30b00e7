"""A call that runs in a second thread: the model loads while a clip decodes, the next clip decodes while this one computes.

Input: a function without arguments. Output: its result or its exception, when asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """A call in a daemon thread. A daemon, so that Ctrl-C need not wait for gigabytes to load."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._value: T | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, args=(call,), daemon=True)
        self._thread.start()

    def _work(self, call: Callable[[], T]) -> None:
        try:
            self._value = call()
        except BaseException as error:  # carried to the thread that asks for the result
            self._error = error

    def result(self) -> T:
        """Wait for the call; its value, or its exception."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # set whenever no error is
