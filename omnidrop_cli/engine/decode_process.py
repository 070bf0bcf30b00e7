"""Work on clips in a child process, so that a crash in a codec costs one clip and not the run.

Takes functions that open media, with their arguments, one at a time; gives what they return or raise. The child lives from clip to clip.
When it dies, the clip in work is tried once more in a child that has opened nothing else, and is blamed only if that one dies too.

Results travel through a pipe in pieces. Named shared memory would be left behind by a killed process, and containers limit it to 64 MB.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np

from omnidrop_cli.engine import child_process
from omnidrop_cli.errors import MediaError, OmnidropError, summarize
from omnidrop_cli.events import SILENT, ProgressCallback

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    _Work = tuple[Callable[..., Any], tuple[Any, ...], bool]
    """A function, its arguments, and whether it takes a `ProgressCallback` behind them."""

T = TypeVar("T")

PIECE = 1 << 18
"""Bytes sent at once: the reader of a pipe holds a piece twice."""

STALL_S = 1800.0
"""A child without a sign of life for this long is taken for hung. Reading the index of a huge file from a slow disk takes minutes."""

REPORT_S = 0.1
"""Seconds between two reports of progress."""

ATTEMPTS = 2

_ADVICE = "check the free memory and the limit of processes"


class DecoderLost(OmnidropError):
    """The child cannot be started: no clip would fare better."""


class Cancelled(OmnidropError):
    """The clip was given up while it was in work."""


class DecodeProcess:
    """Works on clips in a child process, one at a time; a second caller waits. `close` ends the child for good."""

    def __init__(self, stall_s: float | None = STALL_S) -> None:
        """Start nothing yet: the first clip does, or `start`.

        Args:
            stall_s: Seconds without a report after which the child is taken for hung; None waits for ever.
        """
        self._stall_s = stall_s
        self._turn = threading.Lock()
        self._state = threading.Lock()
        """Guards what follows, where a caller and `cancel` meet."""
        self._cancellations = 0
        self._closed = False
        self._child: _Child | None = None

    def start(self) -> None:
        """Start the child, which imports while the caller goes on. Where it cannot be started, `run` says so."""
        with self._state, suppress(DecoderLost):
            if not self._closed:
                self._child = self._child or _Child()

    def run(self, media: str | Path, work: Callable[..., T], *arguments: Any, progress: ProgressCallback | None = None) -> T:
        """What `work(*arguments)` returns in the child, or `work(*arguments, progress)` where `progress` is given.

        Args:
            media: The clip that is opened, to be named where it crashes.
            work: A function of a module. Its arguments and its result are pickled.
            progress: Receives the stages and the advance of the work.

        Raises:
            MediaError: The clip killed a child that had opened nothing else, or made it hang.
            Cancelled: `cancel` or `close` was called meanwhile.
            DecoderLost: No child can be started.
            Exception: What `work` raised.
        """
        with self._state:
            seen = self._cancellations
        with self._turn:
            last: Exception | None = None
            for _ in range(ATTEMPTS):
                child = self._living_child(media, seen)
                try:
                    succeeded, result = child.run((work, arguments, progress is not None), progress or SILENT, self._stall_s)
                except (_Died, DecoderLost) as death:
                    self._forget(child)
                    self._check_wanted(media, seen)
                    last = death
                    if child.works == 1:
                        break
                except BaseException as error:  # Ctrl-C too: its answer may still come, and nothing else can be asked of it
                    self._forget(child)
                    if isinstance(error, _Hangs):
                        raise MediaError(f"{media}: the decoder hangs", str(error)) from None
                    raise
                else:
                    if succeeded:
                        return result  # type: ignore[no-any-return]
                    raise _from_child(*result)
        if isinstance(last, DecoderLost):
            raise last
        raise MediaError(f"{media} crashes the decoder ({last})", "the file is damaged or unusual; converting it with ffmpeg may help")

    def _living_child(self, media: str | Path, seen: int) -> _Child:
        """The child, or a new one.

        Raises:
            Cancelled: There were more cancellations than `seen`, or `close` was called.
            DecoderLost: No child can be started.
        """
        with self._state:
            self._check_wanted(media, seen)
            self._child = self._child or _Child()
            return self._child

    def _forget(self, child: _Child) -> None:
        child.end()
        with self._state:
            self._child = None

    def _check_wanted(self, media: str | Path, seen: int) -> None:
        if self._closed or self._cancellations != seen:
            raise Cancelled(f"{media}: decoding was given up")

    def cancel(self) -> None:
        """Give up the clip in work and those that wait for it: their callers get `Cancelled`."""
        with self._state:
            self._cancellations += 1
            if self._turn.locked() and self._child is not None:
                self._child.process.kill()

    def pause(self) -> None:
        """End the child, whose memory is then free; a clip in work is given up. A later `run` starts another."""
        self.cancel()
        with self._turn, self._state:
            if self._child is not None:
                self._child.end()
            self._child = None

    def close(self) -> None:
        """End the child; a clip in work is given up, and no other is taken."""
        with self._state:
            self._closed = True
        self.pause()


class _Died(Exception):
    """The child ended before it answered; the text says how."""


class _Hangs(Exception):
    """The child gave no sign of life; the text says for how long."""


class _Child:
    """A process that works on clips, and this end of the pipe to it. `works` counts the clips it was given."""

    def __init__(self) -> None:
        """Raises `DecoderLost` where the system starts no process."""
        try:
            self._child = child_process.start(_serve, name="omnidrop-decode")
        except OSError as error:
            raise DecoderLost(f"the process that decodes clips cannot start: {summarize(error)}", _ADVICE) from error
        self._pipe, self.process = self._child.pipe, self._child.process
        self._ready = False
        self.works = 0

    def run(self, work: _Work, progress: ProgressCallback, stall_s: float | None) -> tuple[bool, Any]:
        """Whether the work succeeded, and what it returned or raised. Raises `_Died`, `_Hangs` and `DecoderLost`."""
        self._send((*work, _working_folder()))
        self.works += 1
        while True:
            kind, value = self._message(stall_s)
            if kind in ("result", "error"):
                return kind == "result", value
            getattr(progress, kind)(*value)

    def end(self) -> None:
        """Kill it: it has nothing to finish."""
        self._child.end(0)

    def _send(self, work: tuple[Any, ...]) -> None:
        try:
            self._ready = self._ready or self._pipe.recv() == "ready"
            self._pipe.send(work)
        except (EOFError, OSError):
            self._mourn()

    def _message(self, stall_s: float | None) -> tuple[str, Any]:
        try:
            if self._pipe.poll(stall_s):
                return _receive(self._pipe)
        except (EOFError, OSError):
            self._mourn()
        raise _Hangs(f"it gave no sign of life for {(stall_s or 0) / 60:.0f} minutes")

    def _mourn(self) -> NoReturn:
        self._child.end()
        cause = self._child.cause_of_death()
        if not self._ready:
            raise DecoderLost(f"the process that decodes clips cannot start: {cause}", _ADVICE)
        raise _Died(cause)


def _serve(pipe: Connection) -> None:
    """The child: works in, results out, until the pipe ends."""
    child_process.settle()
    with suppress(ImportError):
        import av  # noqa: F401  # while the parent does something else; a work that needs it says what is wrong
    try:
        pipe.send("ready")
        while True:
            work, arguments, reports, folder = pipe.recv()
            try:
                os.chdir(folder)  # relative names mean what they mean to the parent
                result = work(*arguments, *([_Reporter(pipe)] if reports else []))
            except Exception as error:
                _send(pipe, "error", _portable(error))
            else:
                _send(pipe, "result", result)
                del result  # else the next one decodes with this one in memory
    except (EOFError, ConnectionError):
        return


class _Reporter(ProgressCallback):
    """Sends to the parent how far the child is."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._next = pipe, 0.0

    def stage(self, name: str, detail: str = "") -> None:
        _send(self._pipe, "stage", (name, detail))

    def advance(self, done: float, total: float | None) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + REPORT_S
            _send(self._pipe, "advance", (done, total))


def _working_folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed
        return os.curdir


class _InChild(Exception):
    """The traceback of an error in the child, as its text."""


def _portable(error: Exception) -> tuple[Exception, str, str]:
    """The error itself, or one of ours with its text where it cannot be sent; its traceback, and the module that raised it."""
    where = "".join(traceback.format_exception(error))
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    module = str(frame.f_globals.get("__name__", ""))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return MediaError(f"{type(error).__name__}: {error}"), where, module
    return error, where, module


def _from_child(error: Exception, where: str, module: str) -> Exception:
    """The error as the parent raises it. `raised_in` is the module that raised it, which its traceback here does not tell."""
    error.raised_in = module  # type: ignore[attr-defined]
    error.__cause__ = _InChild(where)
    return error


def _send(pipe: Connection, kind: str, value: Any) -> None:
    """Arrays travel next to the pickle, not inside it: copied once, in pieces (PEP 574)."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps((kind, value), protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    pipe.send((data, [view.nbytes for view in views]))
    for view in views:
        for at in range(0, view.nbytes, PIECE):
            pipe.send_bytes(view[at : at + PIECE])


def _receive(pipe: Connection) -> tuple[str, Any]:
    data, sizes = pipe.recv()
    buffers = [np.empty(size, np.uint8) for size in sizes]
    for buffer in buffers:
        at = 0
        while at < len(buffer):
            at += pipe.recv_bytes_into(buffer, at)
    message: tuple[str, Any] = pickle.loads(data, buffers=buffers)
    return message
