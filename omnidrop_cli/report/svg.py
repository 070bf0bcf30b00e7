"""A table as a picture, for pages that cannot run a terminal.

Knows: Rich's recording console. Does not know what the table shows.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


def to_svg(*parts: RenderableType, title: str, width: int = 80) -> str:
    """The parts below one another in an SVG terminal window of `width` columns. The same input gives the same text."""
    from rich.console import Console

    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor", markup=False)
    console.print(*parts, sep="\n")
    return console.export_svg(title=title, unique_id="omnidrop")
