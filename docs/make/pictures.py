"""docs/assets: what the terminal and the explain page show, and charts, from real runs of the built-in model on the bundled clip.

Counts and answers are the same on every machine; times are those of the machine that drew the picture.
"""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).parents[1] / "assets"
QUESTION = "What is said while the car is shown?"


def draw() -> None:
    """Write every picture. Raises `RuntimeError` where there is no Chromium."""
    from docs.make import explain_picture, layers_picture

    ASSETS.joinpath("table.svg").write_text(table(), encoding="utf-8")
    ASSETS.joinpath("layers.svg").write_text(layers_picture.layers(QUESTION), encoding="utf-8")
    explain_picture.write(ASSETS / "explain.png", QUESTION)


def table() -> str:
    """The answer and the table of `omnidrop ask demo`."""
    from rich.text import Text

    from omnidrop_cli.config import ModelConfig, Request
    from omnidrop_cli.engine.pipeline import run
    from omnidrop_cli.report.svg import to_svg
    from omnidrop_cli.report.tables import ReportTable

    request = Request("demo", QUESTION, model=ModelConfig("nano"))
    run(request)  # imports and the first use of each kernel stay out of the times
    report = run(request)
    return to_svg(Text(f"{report.answer.text}\n"), ReportTable(report), title=f'omnidrop ask demo "{QUESTION}" --model nano')
