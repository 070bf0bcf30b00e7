"""A sheet → the table people read.

Knows: which figures belong side by side. Does not know how any was measured. Prefill has a table of its own (`table.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group as Parts
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from omnidrop_cli.report.numbers import megabytes, seconds
from omnidrop_cli.report.text import one_line

if TYPE_CHECKING:
    from omnidrop_cli.bench.measurement import Arm, Group, Sheet

HIDDEN = {"digest", "size"}
"""Facts that only a machine compares."""

NOTE = "x: times the first arm's; cpu: processor seconds of all threads; peak: memory of the process; taken: beside what it held before"


def view(sheet: Sheet) -> RenderableType:
    """Device and facts, a table per group, computed figures apart."""
    facts = ", ".join(f"{name} {_fact(name, value)}" for name, value in sheet.facts.items())
    parts: list[RenderableType] = [Text(one_line(f"{sheet.device}; medians of {sheet.repeats}" + (f"; {facts}" if facts else "")))]
    for group in sheet.groups:
        parts += [Text(), Text(one_line(group.subject), style="bold"), _arms(group)]
        parts += [Text(f"{arm.name}: {one_line(arm.problem)}", style="yellow") for arm in group.arms if arm.problem]
    parts.append(Text(NOTE, style="dim"))
    if sheet.computed:
        parts += [Text(), Text("computed, not measured", style="bold"), _computed(sheet)]
    return Parts(*parts)


def _arms(group: Group) -> Table:
    facts = list(dict.fromkeys(name for arm in group.arms for name in arm.facts if name not in HIDDEN))
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("arm", no_wrap=True)
    for name in ("time", "x", "cpu", "x", "peak", "taken", *(name.removesuffix("_s").replace("_", " ") for name in facts)):
        table.add_column(name, justify="right")
    for arm in group.arms:
        table.add_row(arm.name, *_figures(arm), *(_fact(name, arm.facts.get(name)) for name in facts))
    return table


def _figures(arm: Arm) -> Iterator[str]:
    if arm.seconds is None or arm.cpu_s is None or arm.peak_mb is None or arm.before_mb is None:
        yield from ("-",) * 6
        return
    for taken, over in ((arm.seconds, arm.over_first), (arm.cpu_s, arm.cpu_over_first)):
        yield seconds(taken)
        yield "-" if over is None else f"{over:.2f}"
    yield megabytes(arm.peak_mb)
    yield megabytes(max(0.0, arm.peak_mb - arm.before_mb))


def _computed(sheet: Sheet) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0))
    names = list(sheet.computed[0])
    for name in names:
        table.add_column(name.removesuffix("_mb").replace("_", " "), justify="left" if name in ("model", "method") else "right")
    for row in sheet.computed:
        table.add_row(*(_fact(name, row[name]) for name in names))
    return table


def _fact(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name.endswith("_mb"):
        return megabytes(value)
    if name.endswith("_bytes"):
        return megabytes(value / 1e6)
    if name.endswith("_s"):
        return seconds(value)
    if name.startswith("of_"):
        return f"{100 * value:.1f} %"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_fact(key, inner)}" for key, inner in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.5g}" if isinstance(value, float) else one_line(str(value))
