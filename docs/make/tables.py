"""Accuracy tables inside pages, from the JSON that `omnidrop evaluate nano --json` wrote.

A block starts with `<!-- from FILE: SCOPE METHODS -->` and ends with `<!-- end -->`. FILE is relative to the page. SCOPE is `all` (every
question) or `headline` (the questions whose evidence is a second or less of the clip). Without METHODS, all methods are in the table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omnidrop_cli.evaluate.summary import Pair, Score, Summary

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "docs" / "results" / "benchmarks.md")
BLOCK = re.compile(r"(<!-- from (\S+\.json): (all|headline)([^>\n]*) -->\n).*?(<!-- end -->)", re.DOTALL)


def page(path: Path) -> str:
    """The page with every block written from its file."""

    def block(match: re.Match[str]) -> str:
        summary = read(path.parent / match[2])
        return f"{match[1]}\n{table(summary, headline=match[3] == 'headline', only=match[4].split())}\n{match[5]}"

    return BLOCK.sub(block, path.read_text(encoding="utf-8"))


def read(path: Path) -> Summary:
    """The summary in a file that `evaluate --json` wrote."""
    from omnidrop_cli.evaluate.summary import LabelGroup, MethodSummary, Pair, Score, Summary

    values = json.loads(path.read_text(encoding="utf-8"))
    scores = ({method: Score(**score) for method, score in group["scores"].items()} for group in values["groups"])
    values["groups"] = tuple(
        LabelGroup(group["label"], group["value"], found) for group, found in zip(values["groups"], scores, strict=True)
    )
    values["methods"] = tuple(MethodSummary(**{**entry, "score": Score(**entry["score"])}) for entry in values["methods"])
    values["headline"] = values["headline"] and tuple(values["headline"])
    for name in ("pairs", "headline_pairs"):
        values[name] = tuple(Pair(**pair) for pair in values[name])
    return Summary(**{name: value for name, value in values.items() if name != "schema"})


def table(summary: Summary, *, headline: bool, only: Sequence[str] = ()) -> str:
    """Methods down, retention across. A cell is the accuracy and the 95 % interval of its difference to the unpruned run.

    Args:
        summary: an evaluation whose runs are named `method@retention` or `method@retention:options`.
        headline: only the questions that the benchmark singles out.
        only: the methods to show; all without it.
    """
    scores = _headline_scores(summary) if headline else {entry.method: entry.score for entry in summary.methods}
    pairs = {pair.second: pair for pair in (summary.headline_pairs if headline else summary.pairs) if pair.first == summary.full}
    cells = {_method_and_budget(name): _cell(score, pairs.get(name)) for name, score in scores.items() if "@" in name}
    methods = [method for method in dict.fromkeys(method for method, _ in cells) if not only or method in only]
    budgets = sorted({budget for _, budget in cells}, reverse=True)
    lines = [
        "| method | " + " | ".join(f"{100 * budget:g} % kept" for budget in budgets) + " |",
        "| --- |" + " ---: |" * len(budgets),
    ]
    if summary.full:
        full = f"{100 * scores[summary.full].accuracy:.1f}"
        lines.append(f"| {summary.full} (everything kept) | " + " | ".join([full] * len(budgets)) + " |")
    for method in methods:
        lines.append(f"| {method} | " + " | ".join(cells.get((method, budget), "") for budget in budgets) + " |")
    return "\n".join(lines) + "\n"


def _headline_scores(summary: Summary) -> dict[str, Score]:
    group = next(group for group in summary.groups if (group.label, group.value) == summary.headline)
    return dict(group.scores)


def _method_and_budget(name: str) -> tuple[str, float]:
    """`divprune@0.3:fade=4` is the method `divprune:fade=4` at 0.3."""
    method, _, rest = name.partition("@")
    budget, colon, options = rest.partition(":")
    return f"{method}{colon}{options}", float(budget)


def _cell(score: Score, pair: Pair | None) -> str:
    interval = f" [{100 * pair.low:+.1f}, {100 * pair.high:+.1f}]" if pair else ""
    return f"{100 * score.accuracy:.1f}{interval}"
