"""Child processes that leave no trace: no reaction to Ctrl-C of their own, no survivor when the parent is gone.

Takes `multiprocessing` processes; gives a start that is safe against Ctrl-C, the first lines of a child, and the cause of a death as text.
"""

from __future__ import annotations

import atexit
import functools
import os
import signal
import sys
import threading
import weakref
from multiprocessing import parent_process
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.events import log_to

GRACE_S = 5.0
"""How long a child may take to end before it is killed."""


_started: weakref.WeakSet[BaseProcess] = weakref.WeakSet()
_ending = threading.Event()


def start(process: BaseProcess) -> None:
    """Start a child that Ctrl-C does not interrupt while it still imports: it reaches the whole group, and the parent acts on it.

    A blocked signal is inherited. It works from any thread, unlike a changed handler.
    """
    if _ending.is_set():  # a thread that outlives the main one sees its child die, and must not replace it
        raise OmnidropError("the program is ending")
    _kill_at_exit()
    _started.add(process)
    if sys.platform == "win32":
        process.start()
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def settle() -> None:
    """First call of a child: leave Ctrl-C and SIGTERM to the parent, and end as soon as the parent has ended, however that came about."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    log_to(None)  # what a child warns of travels with its results
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def end(process: BaseProcess, grace_s: float = GRACE_S) -> None:
    """Wait `grace_s` seconds for a child whose pipe was closed, then kill it."""
    process.join(grace_s)
    if process.is_alive():
        process.kill()
        process.join()


def cause_of_death(code: int | None) -> str:
    """An exit code in words: "killed by SIGSEGV"."""
    if code is None:
        return "does not answer"
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
    return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


@functools.cache
def _kill_at_exit() -> None:
    atexit.register(_kill_all)


def _kill_all() -> None:
    """Runs before `multiprocessing` waits for its children: a child that ignores SIGTERM would never end."""
    _ending.set()
    for process in [*_started]:
        if process.is_alive():
            process.kill()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
