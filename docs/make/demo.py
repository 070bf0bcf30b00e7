"""The table of the quickstart: the demo clips' questions, what is true, and what the built-in model answers."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "user" / "quickstart.md"
BLOCK = re.compile(r"(<!-- demo questions -->\n).*?(<!-- end -->)", re.DOTALL)


def page() -> str:
    """The quickstart with its table written from a run of the built-in model."""
    return BLOCK.sub(lambda match: f"{match[1]}\n{table()}\n{match[2]}", PAGE.read_text(encoding="utf-8"))


def table() -> str:
    """One row per question. Wrong answers are in italics."""
    from omnidrop_cli.config import ModelConfig, PruningConfig, Request
    from omnidrop_cli.engine.session import Session
    from omnidrop_cli.nano.world.demo_clips import QUESTIONS

    session = Session.load(ModelConfig("nano"))
    lines = ["| clip | question | true | unpruned | pruned (default) |", "|---|---|---|---|---|"]
    for item in QUESTIONS:
        cells = []
        for pruning in (PruningConfig("none"), PruningConfig()):
            answer = session.run(Request(item.clip, item.question, method=pruning)).answer.text
            cells.append(answer if answer == item.answer else f"*{answer}*")
        lines.append(f"| `{item.clip}` | {item.question} | {item.answer} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n"
