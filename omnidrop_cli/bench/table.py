"""A bench report as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group as Parts
from rich.console import RenderableType
from rich.text import Text

from omnidrop_cli.report.columns import Column, DataTable, phrases
from omnidrop_cli.report.numbers import megabytes, seconds, share
from omnidrop_cli.report.text import one_line

if TYPE_CHECKING:
    from omnidrop_cli.bench.measurement import BenchReport, Group, Measurement

TITLES = {
    "retention_after": "kept",
    "flops_ratio": "FLOPs",
    "over_floor": "floor",
    "token_s": "per token",
    "answer_s": "answer",
    "kv_mb": "KV",
    "audio_seconds": "audio s",
}
"""Column titles of facts, where the fact's own name is not one."""

RANKS = {"retention_after": 0, "flops_ratio": 1, "frames": 0, "audio_seconds": 1}
"""Facts that stay longest where the terminal is narrow."""

JSON_ONLY = {"digest", "size", "tokens", "flops", "retention_entering"}
"""Facts of a run that the table leaves out."""

NOTE = (
    "cold: first execution; time: median of the others; speed: relative to the first row, ± half its range; "
    "added: memory peak over what was held before"
)
PREFILL_NOTE = f"{NOTE}; floor: time over that of the matrix products alone"
CPU_NOTE = f"{NOTE}; cpu: processor seconds of all threads"


def render(report: BenchReport) -> RenderableType:
    """Facts, one table per group, and computed figures apart. Processor seconds are shown for work that runs on the CPU alone."""
    with_cpu = report.kind != "prefill"
    parts: list[RenderableType] = [
        Text(one_line(f"{report.device}; medians of {report.repeats}")),
        phrases(*(f"{name.replace('_', ' ')} {_fact(name, value)}" for name, value in report.facts.items())),
    ]
    for group in report.groups:
        parts += [Text(), Text(one_line(group.subject), style="bold"), _runs(group, with_cpu=with_cpu)]
        parts += [Text(f"{run.name}: {one_line(run.problem)}", style="yellow") for run in group.runs if run.problem]
    parts.append(Text(CPU_NOTE if with_cpu else PREFILL_NOTE, style="dim"))
    if report.computed:
        parts += [Text(), Text("computed, not measured", style="bold"), _computed(report.computed)]
    return Parts(*parts)


def _runs(group: Group, *, with_cpu: bool) -> DataTable:
    facts = list(dict.fromkeys(name for run in group.runs for name in run.facts if name not in JSON_ONLY))
    columns = [
        Column("cold", rank=2),
        Column("time"),
        *([Column("speed")] if len(group.runs) > 1 else []),
        *([Column("cpu", rank=1)] if with_cpu else []),
        *([Column("peak", rank=3), Column("added", rank=4)] if any(run.peak_mb for run in group.runs) else []),
    ]
    of_facts = [Column(TITLES.get(name, name.removesuffix("_s").replace("_", " ")), rank=RANKS.get(name, 2)) for name in facts]
    rows = []
    for run in group.runs:
        cells = _figures(run)
        rows.append(
            (one_line(run.name), *(cells[column.name] for column in columns), *(_fact(name, run.facts.get(name)) for name in facts))
        )
    return DataTable((Column("run", right=False), *columns, *of_facts), tuple(rows))


def _figures(run: Measurement) -> Mapping[str, str]:
    """The cell of every column that is not a fact's."""
    names = ("cold", "time", "speed", "cpu", "peak", "added")
    if run.seconds is None or run.cold_s is None or run.cpu_s is None or run.peak_mb is None or run.before_mb is None:
        return dict.fromkeys(names, "-")
    return {
        "cold": seconds(run.cold_s),
        "time": seconds(run.seconds),
        "speed": _speed(run),
        "cpu": seconds(run.cpu_s),
        "peak": megabytes(run.peak_mb),
        "added": megabytes(max(0.0, run.peak_mb - run.before_mb)),
    }


def _speed(run: Measurement) -> str:
    """The median with half the range, "2.31x ±0.08"."""
    if run.speed is None or run.speed_low is None or run.speed_high is None:
        return "-"
    if run.speed_low == run.speed_high:  # the run that the others are relative to, or a single repeat
        return f"{run.speed:.2f}x"
    return f"{run.speed:.2f}x ±{(run.speed_high - run.speed_low) / 2:.2f}"


def _computed(rows: Sequence[Mapping[str, Any]]) -> DataTable:
    names = list(rows[0])
    columns = [Column(name.removesuffix("_mb").replace("_", " "), right=name not in ("model", "method")) for name in names]
    return DataTable(tuple(columns), tuple(tuple(_fact(name, row[name]) for name in names) for row in rows))


def _fact(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_fact(key, inner)}" for key, inner in value.items())
    if not isinstance(value, int | float):
        return one_line(", ".join(map(str, value)) if _is_list(value) else str(value))
    for suffix, write in _UNITS:
        if name.endswith(suffix):
            return write(value)
    return f"{value:.3g}" if isinstance(value, float) else f"{value:,}"


def _is_list(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str)


_UNITS = (
    ("_mb", megabytes),
    ("_bytes", lambda value: megabytes(value / 1e6)),
    ("_per_s", lambda value: f"{value:.3g}"),
    ("_s", seconds),
    ("over_floor", lambda value: f"{value:.2f}x"),
    ("retention_after", share),
    ("_ratio", share),
    ("_share", share),
)
"""How a number is written, by the end of its fact's name; the first match counts."""
