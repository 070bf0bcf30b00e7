"""docs/assets/*.svg: what the terminal shows, from real runs of the built-in model on the bundled clip.

Counts and answers are the same on every machine; times are those of the machine that drew the picture.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

ASSETS = Path(__file__).parents[1] / "assets"
QUESTION = "What is said while the car is shown?"


def draw() -> None:
    """Write every picture."""
    ASSETS.joinpath("table.svg").write_text(table(), encoding="utf-8")


def table() -> str:
    """The answer and the table of `omnidrop ask demo`."""
    from rich.text import Text

    from omnidrop_cli.config import ModelConfig, Request
    from omnidrop_cli.engine.pipeline import run
    from omnidrop_cli.report.tables import ReportTable

    request = Request("demo", QUESTION, model=ModelConfig("nano"))
    run(request)  # imports and the first use of each kernel stay out of the times
    report = run(request)
    return to_svg(Text(f"{report.answer.text}\n"), ReportTable(report), title=f'omnidrop ask demo "{QUESTION}" --model nano')


def to_svg(*parts: RenderableType, title: str, width: int = 80) -> str:
    """Draw a terminal window.

    Args:
        parts: what the window shows, from top to bottom.
        title: text of the title bar.
        width: of the terminal, in columns.

    Returns:
        An SVG document. It loads nothing: the rules that fetch a font are taken out, and the reader's monospace font is used.
    """
    from rich.console import Console

    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor", markup=False)
    console.print(*parts, sep="\n")
    drawn = console.export_svg(title=title, unique_id="omnidrop")
    return re.sub(r"\s*@font-face \{.*?\}", "", drawn, flags=re.DOTALL)
