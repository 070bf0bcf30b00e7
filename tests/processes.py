"""Processes that tests need next to themselves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def a_process_that_uses(path: Path) -> Iterator[None]:
    """A block during which another process has marked `path` as in use."""
    code = (
        "import sys; from pathlib import Path; from omnidrop_cli.in_use import keep_in_use\n"
        "keep_in_use(Path(sys.argv[1])); print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.communicate()
