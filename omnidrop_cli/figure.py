"""Pictures by matplotlib, without a display: which files can be drawn, and writing one whole or not at all."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from omnidrop_cli import fileio
from omnidrop_cli.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
REQUIREMENT = "matplotlib>=3.8"


def check(path: Path) -> None:
    """Raise `UsageError` for a file type that cannot be drawn, or without matplotlib."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--plot {path}: cannot draw a {path.suffix or 'file without a suffix'}", f"use one of {', '.join(SUFFIXES)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib", f'pip install "{REQUIREMENT}"')


def save(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all. Raises `OmnidropError` where the file cannot be written."""
    with fileio.replacing(path) as part:
        figure.savefig(part, format=path.suffix[1:].lower(), dpi=150)
