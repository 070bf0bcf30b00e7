"""Child processes that do not react to Ctrl-C themselves and do not outlive the parent.

Input: a function and its arguments. Output: a `Child`, which is the running process, the pipe to it, and the cause of its death as text.
Processes are spawned, not forked: CUDA and thread pools do not survive a fork.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import parent_process, util
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.events import log_to

GRACE_S = 5.0
"""How long a child may take to end before it is killed."""


_started: weakref.WeakSet[BaseProcess] = weakref.WeakSet()
_ending = threading.Event()


@dataclass(frozen=True, slots=True, eq=False)
class Child:
    """A process, and this end of the pipe to it."""

    process: BaseProcess
    pipe: Connection

    def end(self, grace_s: float = GRACE_S) -> None:
        """Close the pipe, which tells the child to end, wait `grace_s` seconds, then kill it."""
        self.pipe.close()
        self.process.join(grace_s)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def cause_of_death(self) -> str:
        """Why a child is gone, in words: "killed by SIGSEGV". Waits for its end, which may follow that of its pipe."""
        self.process.join(GRACE_S)
        code = self.process.exitcode
        if code is None:
            return "does not answer"
        if code >= 0:
            return f"ended with exit code {code}"
        name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def start(target: Callable[..., None], *arguments: object, name: str, daemon: bool = True) -> Child:
    """Run `target(pipe, *arguments)` in a new process that Ctrl-C does not interrupt while it still imports.

    Ctrl-C reaches the whole group, and the parent acts on it. A blocked signal is inherited; it works from any thread, unlike a changed
    handler.

    Raises:
        OmnidropError: The program is ending.
    """
    if _ending.is_set():  # a thread that outlives the main one sees its child die, and must not replace it
        raise OmnidropError("the program is ending")
    _kill_at_exit()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments), daemon=daemon, name=name)
    _started.add(process)
    if sys.platform == "win32":
        process.start()
    else:
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()  # `start` would do it, and unblock SIGINT again
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with _interrupt_later():
                process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()  # else a dead child's pipe would never end
    return Child(process, ours)


@contextmanager
def _interrupt_later() -> Iterator[None]:
    """A block that Ctrl-C interrupts at its end: a child that is not sent everything prints a traceback.

    Blocking the signal does not do: another thread may take it, and Python's handler runs in the main one.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if heard:
        raise KeyboardInterrupt


def settle() -> None:
    """First call of a child: leave Ctrl-C and SIGTERM to the parent, and end as soon as the parent has ended, however that came about."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    log_to(None)  # what a child warns of travels with its results
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


@functools.cache
def _kill_at_exit() -> None:
    # Not `atexit`: in a child, which may have children too, `multiprocessing` waits for them before it calls that.
    util.Finalize(None, _kill_all, exitpriority=0)


def _kill_all() -> None:
    """Runs before `multiprocessing` waits for its children: a child that ignores SIGTERM would never end."""
    _ending.set()
    for process in [*_started]:
        if process.is_alive():
            process.kill()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
