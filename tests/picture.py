"""docs/assets/table.svg, the README's picture: a real run of the nano model on the bundled clip.

`python -m tests.picture > docs/assets/table.svg`

Knows: which question the picture shows. Does not know how a table is drawn (`report/`).
"""

from __future__ import annotations

import sys

from omnidrop_cli.config import ModelConfig, Request

QUESTION = "What is said while the car is shown?"


def svg() -> str:
    """The table of one run, drawn by Rich. Times are this machine's, everything else is the same anywhere."""
    from rich.text import Text

    from omnidrop_cli.engine.pipeline import run
    from omnidrop_cli.report.svg import to_svg
    from omnidrop_cli.report.tables import ReportTable

    job = Request("demo", QUESTION, model=ModelConfig("nano"))
    run(job)  # imports and first-touch costs stay out of the picture
    report = run(job)
    return to_svg(Text(f"{report.answer.text}\n"), ReportTable(report), title=f'omnidrop ask demo "{QUESTION}" --model nano')


if __name__ == "__main__":
    sys.stdout.write(svg())
