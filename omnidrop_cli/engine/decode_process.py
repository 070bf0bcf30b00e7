"""Clips decoded in a child process, so that a crash in a codec costs one clip and not the run.

Takes requests, one at a time; gives decoded clips. The child lives from clip to clip. When it dies, the clip in work is tried once more
in a new child that has decoded nothing else, and is blamed only if that one dies too.

Results travel through a pipe in pieces. Named shared memory would be left behind by a killed process, and containers limit it to 64 MB.
"""

from __future__ import annotations

import pickle
import threading
import time
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from omnidrop_cli.engine import child_process
from omnidrop_cli.errors import MediaError, OmnidropError
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.media.open import open_clip

if TYPE_CHECKING:
    from collections.abc import Callable

    from omnidrop_cli.config import Request
    from omnidrop_cli.outputs import Clip, FrameBounds

    Decode = Callable[[Request, FrameBounds, ProgressCallback, dict[str, float]], Clip]

PIECE = 1 << 18
"""Bytes sent at once: the reader of a pipe holds a piece twice."""

STALL_S = 1800.0
"""A child without a sign of life for this long is taken for hung. Reading the index of a huge file from a slow disk takes minutes."""

REPORT_S = 0.1
"""Seconds between two reports of progress."""

ATTEMPTS = 2


class DecoderLost(OmnidropError):
    """The child cannot be started: no clip would fare better."""


class Cancelled(OmnidropError):
    """The clip was given up while it was in work."""


class DecodeProcess:
    """Decodes clips in a child process, one at a time; a second caller waits. `close` ends the child."""

    def __init__(self, bounds: FrameBounds, decode: Decode = open_clip, stall_s: float = STALL_S) -> None:
        """Start the child, which imports while the caller goes on.

        Args:
            bounds: The model's own bounds of a frame, for what a request leaves open.
            decode: A function of a module, run in the child.
            stall_s: Seconds without a report after which the child is taken for hung.
        """
        self._arguments = (bounds, decode)
        self._stall_s = stall_s
        self._turn = threading.Lock()
        self._state = threading.Lock()
        """Guards what follows, where a caller and `cancel` meet."""
        self._cancellations = 0
        self._closed = False
        self._child: _Child | None = _Child(*self._arguments)

    def open(self, request: Request, progress: ProgressCallback = SILENT) -> tuple[Clip, dict[str, float]]:
        """The request's clip, and the seconds that fetching and decoding it took.

        Raises:
            MediaError: The clip killed a child that had decoded nothing else, or made it hang.
            Cancelled: `cancel` or `close` was called meanwhile.
            DecoderLost: No child can be started.
            Exception: What `decode` raised.
        """
        with self._state:
            seen = self._cancellations
        with self._turn:
            for _ in range(ATTEMPTS):
                child = self._living_child(request, seen)
                try:
                    return child.decode(request, progress, self._stall_s)
                except (_Died, DecoderLost) as death:
                    last = death
                    with self._state:
                        self._child = None
            self._check_wanted(request, seen)
            if isinstance(last, DecoderLost):
                raise last
            hint = "the file is damaged or unusual; converting it with ffmpeg may help"
            raise MediaError(f"{request.media} crashes the decoder ({last})", hint)

    def _living_child(self, request: Request, seen: int) -> _Child:
        """The child, or a new one. Raises `Cancelled` where there were more cancellations than `seen`, or `close` was called."""
        with self._state:
            self._check_wanted(request, seen)
            self._child = self._child or _Child(*self._arguments)
            return self._child

    def _check_wanted(self, request: Request, seen: int) -> None:
        if self._closed or self._cancellations != seen:
            raise Cancelled(f"{request.media}: decoding was given up")

    def cancel(self) -> None:
        """Give up the clip in work and those that wait for it: their callers get `Cancelled`."""
        with self._state:
            self._cancellations += 1
            if self._turn.locked() and self._child is not None:
                self._child.process.kill()

    def close(self) -> None:
        """End the child; a clip in work is given up, and no other is taken."""
        with self._state:
            self._closed = True
        self.cancel()
        with self._turn, self._state:
            if self._child is not None:
                self._child.end()
            self._child = None


class _Died(Exception):
    """The child ended before it answered; the text says how."""


class _Child:
    """A process that decodes, and this end of the pipe to it."""

    def __init__(self, bounds: FrameBounds, decode: Decode) -> None:
        self._child = child_process.start(_serve, bounds, decode, name="omnidrop-decode")
        self._pipe, self.process = self._child.pipe, self._child.process
        self._ready = False

    def decode(self, request: Request, progress: ProgressCallback, stall_s: float) -> tuple[Clip, dict[str, float]]:
        """Raises `_Died`, `DecoderLost`, `MediaError` for a hang, and what the child raised."""
        self._send(request)
        while True:
            kind, value = self._message(stall_s)
            if kind == "clip":
                return value  # type: ignore[no-any-return]
            if kind == "error":
                raise value
            if kind == "hang":
                self.process.kill()
                raise MediaError(f"{request.media}: the decoder hangs", f"it gave no sign of life for {stall_s / 60:.0f} minutes")
            getattr(progress, kind)(*value)

    def end(self) -> None:
        self._child.end()

    def _send(self, request: Request) -> None:
        try:
            self._ready = self._ready or self._pipe.recv() == "ready"
            self._pipe.send(request)
        except (EOFError, OSError):
            self._mourn()

    def _message(self, stall_s: float) -> tuple[str, Any]:
        try:
            return _receive(self._pipe) if self._pipe.poll(stall_s) else ("hang", None)
        except (EOFError, OSError):
            self._mourn()

    def _mourn(self) -> NoReturn:
        self.end()
        cause = self._child.cause_of_death()
        if not self._ready:
            raise DecoderLost(f"the process that decodes clips cannot start: {cause}", "check the free memory and the limit of processes")
        raise _Died(cause)


def _serve(pipe: Connection, bounds: FrameBounds, decode: Decode) -> None:
    """The child: requests in, clips out, until the pipe ends."""
    child_process.settle()
    try:
        pipe.send("ready")
        while True:
            request = pipe.recv()
            seconds: dict[str, float] = {}
            try:
                clip = decode(request, bounds, _Reporter(pipe), seconds)
            except Exception as error:
                _send(pipe, "error", _portable(error))
            else:
                _send(pipe, "clip", (clip, seconds))
                del clip  # else the next one decodes with this one in memory
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


def _portable(error: Exception) -> Exception:
    """The error itself, or one of ours with its text where it cannot be sent."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return MediaError(f"{type(error).__name__}: {error}")
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
