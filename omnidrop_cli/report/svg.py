"""What a terminal shows as an SVG document, for pages."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


def to_svg(*parts: RenderableType, title: str) -> str:
    """Draw a terminal window of 80 columns.

    Args:
        parts: what the window shows, from top to bottom.
        title: text of the title bar.

    Returns:
        An SVG document, the same for the same parts. It loads nothing: the rules that fetch a font are taken out, and the reader's
        monospace font is used.
    """
    from rich.console import Console

    console = Console(record=True, width=80, file=io.StringIO(), force_terminal=True, color_system="truecolor", markup=False)
    console.print(*parts, sep="\n")
    drawn = console.export_svg(title=title, unique_id="omnidrop")
    return re.sub(r"\s*@font-face \{.*?\}", "", drawn, flags=re.DOTALL)
