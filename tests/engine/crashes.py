"""Decoders that crash, hang or die on clips of certain names. Functions of a module, since they run in a child process."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from omnidrop_cli.media.open import open_clip

if TYPE_CHECKING:
    from omnidrop_cli.config import Request
    from omnidrop_cli.events import ProgressCallback
    from omnidrop_cli.outputs import Clip, FrameBounds


def decode(request: Request, bounds: FrameBounds, progress: ProgressCallback) -> tuple[Clip, dict[str, float]]:
    """`open_clip`, but a clip called segfault* reads foreign memory, oom* is killed, hang* never ends."""
    name = Path(request.media).name
    if name.startswith("segfault"):
        ctypes.string_at(0)
    if name.startswith("oom"):
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("hang"):
        time.sleep(600)
    return open_clip(request, bounds, progress)


_seen = 0


def poisoned(request: Request, bounds: FrameBounds, progress: ProgressCallback) -> tuple[Clip, dict[str, float]]:
    """Every second clip of a process crashes, whichever it is: the one before it has damaged the memory."""
    global _seen
    _seen += 1
    if _seen == 2:
        ctypes.string_at(0)
    return open_clip(request, bounds, progress)


def faulty(path: str) -> None:
    """A mistake in the program, in a package that is not omnidrop."""
    json.loads(Path(path).name)
