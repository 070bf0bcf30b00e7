"""Accuracy over cost as a picture, drawn by matplotlib without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidrop_cli.errors import UsageError
from omnidrop_cli.figure import save
from omnidrop_cli.suggest import did_you_mean

if TYPE_CHECKING:
    from omnidrop_cli.evaluate.items import Question
    from omnidrop_cli.evaluate.summary import MethodSummary, Score, Summary

MARKERS = "osD^vPX*<>"


def check_label(questions: Sequence[Question], label: str) -> None:
    """Raise `UsageError` for a label that the questions do not have."""
    labels = list(dict.fromkeys(name for question in questions for name in question.labels))
    if label not in labels:
        raise UsageError(f"--plot-by {label}: the questions have no such label", did_you_mean(label, labels, f"one of {', '.join(labels)}"))


def draw(summary: Summary, path: Path, by: str | None = None) -> None:
    """Write the plot, whole or not at all. Raises `OmnidropError` where the file cannot be written.

    Accuracy over the share kept (mean after each cut), over the prefill's FLOPs, and over those of encoders and prefill together. Bars are
    95 % intervals; the band is the interval without pruning. With `by`, a label of the questions, accuracy over the share kept in one panel
    for each of the label's values, without bars.
    """
    from matplotlib.figure import Figure

    panels = _panels(summary) if by is None else _panels_by(summary, by)
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(2 + 4 * columns if by is None else 2 + 3 * columns, 4.2 if by is None else 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, sharex=by is not None, squeeze=False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        _lines(axis, summary, panel, bars=by is None)
        axis.grid(alpha=0.3)
        axis.set_title(panel.title, fontsize="medium")
    for axis in list(axes.flat)[len(panels) :]:
        axis.remove()
    figure.supylabel("accuracy %", fontsize="medium")
    if by is None:
        for axis, panel in zip(axes.flat, panels, strict=False):
            axis.set_xlabel(panel.cost_name)
    else:
        figure.supxlabel(panels[0].cost_name, fontsize="medium")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), fontsize="small", loc="outside right upper")
    figure.suptitle(f"{summary.title}: {summary.questions} questions", fontsize="medium")
    save(figure, path)


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: the field of `MethodSummary` that runs across, how it is called, and each method's score."""

    cost: str
    cost_name: str
    scores: Mapping[str, Score]
    title: str = ""


COSTS = {
    "retention_after": "audio and video tokens kept %",
    "flops": "FLOPs of the prefill %",
    "flops_with_encoders": "FLOPs of encoders and prefill %",
}


def _panels(summary: Summary) -> list[Panel]:
    """A panel for each cost that was measured."""
    scores = {entry.method: entry.score for entry in summary.methods}
    measured = [cost for cost in COSTS if any(getattr(entry, cost) is not None for entry in summary.methods)]
    return [Panel(cost, COSTS[cost], scores) for cost in measured or ["retention_after"]]


def _panels_by(summary: Summary, label: str) -> list[Panel]:
    """A panel for each value of `label`."""
    groups = [group for group in summary.groups if group.label == label]
    return [
        Panel(
            "retention_after",
            COSTS["retention_after"],
            group.scores,
            f"{group.value} ({max(score.n for score in group.scores.values())})",
        )
        for group in groups
    ]


def _lines(axis: Any, summary: Summary, panel: Panel, *, bars: bool = True) -> None:
    full = panel.scores.get(summary.full) if summary.full is not None else None
    if full is not None and full.n:
        if bars:
            axis.axhspan(100 * full.low, 100 * full.high, alpha=0.12, color="black")
        axis.axhline(100 * full.accuracy, color="black", linewidth=1, label=summary.full)
    for number, (name, methods) in enumerate(_families(summary.methods, summary.full).items()):
        known = [entry for entry in methods if getattr(entry, panel.cost) is not None and panel.scores[entry.method].n]
        points = sorted(((100 * getattr(entry, panel.cost), panel.scores[entry.method]) for entry in known), key=lambda point: point[0])
        if points:
            scores = [score for _, score in points]
            ends = [[100 * abs(score.accuracy - end) for score, end in zip(scores, side, strict=True)] for side in _ends(scores)]
            axis.errorbar(
                [x for x, _ in points],
                [100 * score.accuracy for score in scores],
                yerr=ends if bars else None,
                marker=MARKERS[number % len(MARKERS)],
                linestyle=("-", "--", ":")[number // len(MARKERS) % 3],
                markersize=5 if bars else 3,
                capsize=3,
                linewidth=1.2,
                label=name,
            )


def _ends(scores: Sequence[Score]) -> tuple[list[float], list[float]]:
    return [score.low for score in scores], [score.high for score in scores]


def _families(methods: Sequence[MethodSummary], full: str | None) -> dict[str, list[MethodSummary]]:
    """Methods by name and options, all budgets of one together."""
    found: dict[str, list[MethodSummary]] = {}
    for entry in methods:
        if entry.method != full and entry.score.n:
            name, _, rest = entry.method.partition("@")
            options = rest.partition(":")[2]
            found.setdefault(f"{name}:{options}" if options else name, []).append(entry)
    return found
