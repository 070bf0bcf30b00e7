"""Put on PYTHONPATH, it makes every process that opens a clip called segfault* crash, as a faulty codec would; hang* never ends.

So does a clip whose content is one of these words: a clip on stdin has no name of its own.
"""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Any

from omnidrop_cli.media import clip, probe

_scan = probe.scan


def scan(path: str | Path) -> Any:
    with Path(path).open("rb") as file:
        words = (Path(path).name, file.read(16).decode(errors="replace"))
    if any(word.startswith("segfault") for word in words):
        ctypes.string_at(0)
    if any(word.startswith("hang") for word in words):
        time.sleep(600)
    return _scan(path)


clip.scan = probe.scan = scan
