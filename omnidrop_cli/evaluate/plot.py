"""Accuracy over retention as a picture, drawn by matplotlib without a display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidrop_cli import fileio
from omnidrop_cli.errors import UsageError

if TYPE_CHECKING:
    from omnidrop_cli.evaluate.summary import MethodSummary, Summary

SUFFIXES = (".png", ".svg", ".pdf")
REQUIREMENT = "matplotlib>=3.8"
MARKERS = "osD^vPX*<>"


def check(path: Path) -> None:
    """Raise `UsageError` for a file type that cannot be drawn, or without matplotlib."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--plot {path}: cannot draw a {path.suffix or 'file without a suffix'}", f"use one of {', '.join(SUFFIXES)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError("--plot needs matplotlib", f'pip install "{REQUIREMENT}"') from error


def draw(summary: Summary, path: Path) -> None:
    """Write the plot, whole or not at all. Raises `OmnidropError` where the file cannot be written.

    Left: accuracy over the share kept (mean after each cut). Right: over the prefill's FLOPs. Bars are 95 % intervals; the band is the
    interval without pruning.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, cost, title in zip(
        axes, ("retention_after", "flops"), ("audio and video tokens kept %", "FLOPs of the prefill %"), strict=True
    ):
        _lines(axis, summary, cost)
        axis.set_xlabel(title)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("accuracy %")
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize="small", loc="outside right upper")
    figure.suptitle(f"{summary.title}: {summary.questions} questions", fontsize="medium")
    with fileio.replacing(path) as part:
        figure.savefig(part, format=path.suffix[1:].lower(), dpi=150)


def _lines(axis: Any, summary: Summary, cost: str) -> None:
    full = next((entry for entry in summary.methods if entry.method == summary.full), None)
    if full is not None:
        axis.axhspan(100 * full.score.low, 100 * full.score.high, alpha=0.12, color="black")
        axis.axhline(100 * full.score.accuracy, color="black", linewidth=1, label=full.method)
    for number, (name, methods) in enumerate(_families(summary.methods, summary.full).items()):
        points = sorted((entry for entry in methods if getattr(entry, cost) is not None), key=lambda entry: float(getattr(entry, cost)))
        if points:
            low, high = ([100 * abs(entry.score.accuracy - end) for entry, end in zip(points, ends, strict=True)] for ends in _ends(points))
            accuracy = [100 * entry.score.accuracy for entry in points]
            marker, style = MARKERS[number % len(MARKERS)], ("-", "--", ":")[number // len(MARKERS) % 3]
            x = [100 * float(getattr(entry, cost)) for entry in points]
            axis.errorbar(x, accuracy, yerr=[low, high], marker=marker, linestyle=style, markersize=5, capsize=3, linewidth=1.2, label=name)


def _ends(points: Sequence[MethodSummary]) -> tuple[list[float], list[float]]:
    return [entry.score.low for entry in points], [entry.score.high for entry in points]


def _families(methods: Sequence[MethodSummary], full: str | None) -> dict[str, list[MethodSummary]]:
    """Methods by name and options, all budgets of one together."""
    found: dict[str, list[MethodSummary]] = {}
    for entry in methods:
        if entry.method != full and entry.score.n:
            name, _, rest = entry.method.partition("@")
            options = rest.partition(":")[2]
            found.setdefault(f"{name}:{options}" if options else name, []).append(entry)
    return found
