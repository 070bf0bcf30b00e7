"""A bench as a picture: one row of panels per group, seconds and peak memory of every run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidrop_cli import figure

if TYPE_CHECKING:
    from omnidrop_cli.bench.measurement import BenchReport, Group, Measurement

ROW, HEAD = 0.34, 1.0
"""Inches of a bar, and of a panel's title and axis."""

TIME, MEMORY = "#0072b2", "#d55e00"


def draw(report: BenchReport, path: Path) -> None:
    """Write the plot. Bars are medians, whiskers the fastest and the slowest, diamonds the cold run. Runs without a figure say why."""
    from matplotlib.figure import Figure

    heights = [HEAD + ROW * len(group.runs) for group in report.groups]
    drawn = Figure(figsize=(11, 0.6 + sum(heights)), layout="constrained")
    axes = drawn.subplots(len(report.groups), 2, squeeze=False, height_ratios=heights)
    for group, (seconds, memory) in zip(report.groups, axes, strict=True):
        _seconds(seconds, group)
        _memory(memory, group)
    drawn.suptitle(f"{report.kind} on {report.device}", fontsize="medium")
    figure.save(drawn, path)


def _seconds(axis: Any, group: Group) -> None:
    for place, run in enumerate(group.runs):
        if run.seconds is None or run.low_s is None or run.high_s is None:
            axis.annotate(
                run.problem or "not measured", (0, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize="small"
            )
            continue
        axis.barh(place, run.seconds, color=TIME, height=0.6)
        axis.hlines(place, run.low_s, run.high_s, color="black", linewidth=1)
        if run.cold_s is not None:
            axis.plot(run.cold_s, place, "D", color="black", markersize=4)
    _rows(axis, group.runs, f"{group.subject}: seconds (diamond: cold)")


def _memory(axis: Any, group: Group) -> None:
    if not any(run.peak_mb for run in group.runs):  # decoding measures time alone
        axis.set_axis_off()
        return
    for place, run in enumerate(group.runs):
        if run.peak_mb is not None:
            axis.barh(place, run.peak_mb, color=MEMORY, height=0.6)
    _rows(axis, group.runs, "peak memory, MB", names=False)


def _rows(axis: Any, runs: Sequence[Measurement], title: str, *, names: bool = True) -> None:
    labels = [run.name for run in runs] if names else [""] * len(runs)
    axis.set_yticks(range(len(runs)), labels, fontsize="small")
    axis.set_ylim(len(runs) - 0.5, -0.5)
    axis.set_xlim(left=0)
    axis.grid(axis="x", alpha=0.3)
    axis.set_title(title, fontsize="medium", loc="left")
