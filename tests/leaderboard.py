"""The tables of docs/results/benchmarks.md, made from the JSON that `omnidrop evaluate nano --json` printed: `python -m tests.leaderboard`.

Knows: between which marks of the page a table stands, and which file it is made from. Does not know how a table is drawn
(`evaluate/tables.py`).
"""

from __future__ import annotations

import json
import re
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "results" / "benchmarks.md"
BLOCK = re.compile(r"(<!-- from (\S+\.json) -->\n).*?(<!-- end -->)", re.DOTALL)
"""A table and the file behind it, named as a link on the page would be."""


def renewed(text: str, folder: Path) -> str:
    """`text` with every block made anew from its file in `folder`."""
    from omnidrop_cli.evaluate.summary import Summary
    from omnidrop_cli.evaluate.tables import sections

    def block(match: re.Match[str]) -> str:
        summary = Summary.from_json(json.loads((folder / match[2]).read_text(encoding="utf-8")))
        return f"{match[1]}\n{sections(summary, '####')}\n{match[3]}"

    return BLOCK.sub(block, text)


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8"), PAGE.parent), encoding="utf-8")
