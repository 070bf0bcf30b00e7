"""The line that says that a name is a former one."""

from __future__ import annotations

import sys

from omnidrop_cli.report.text import one_line


def deprecated(line: str) -> None:
    """Print a deprecation line on stderr."""
    if sys.stderr is not None:
        sys.stderr.write(f"warning: {one_line(line)}\n")
