"""A comparison as a table: the same prompt, full and pruned, side by side.

Knows: which figures of two reports belong next to each other. Does not know how the runs were made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from omnidrop_cli.outputs import Comparison, Report
from omnidrop_cli.report.numbers import flops, megabytes, seconds, share, times
from omnidrop_cli.report.tables import facts, joined, layer_table, tokens_per_second
from omnidrop_cli.report.text import clean, one_line

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult


@dataclass(frozen=True, slots=True)
class ComparisonTable:
    """Renders a comparison: the pruned run's layers, the figures side by side, both answers, and how far they agree."""

    comparison: Comparison
    said: frozenset[str] = frozenset()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        full, pruned = self.comparison.full, self.comparison.pruned
        yield layer_table(pruned, options.max_width)
        yield Text()
        yield _side_by_side(full, pruned)
        yield Text()
        yield facts([("full", _words(full)), (pruned.method, _words(pruned)), *_agreement(self.comparison)])
        for warning in dict.fromkeys((*full.warnings, *pruned.warnings)):
            if warning not in self.said:
                yield Text(f"warning: {one_line(warning)}", style="yellow")


def _side_by_side(full: Report, pruned: Report) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("")
    for name in ("full", Text(one_line(pruned.method)), "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, left, right, ratio in _rows(full, pruned):
        table.add_row(name, left, right, ratio)
    return table


def _rows(full: Report, pruned: Report) -> Iterator[tuple[str, str, str, str]]:
    """Ratios are full over pruned: above 1 the pruned run is the cheaper one. Of speeds it is the other way round."""
    means = [sum(r.trace.kv_lengths) / max(1, r.trace.num_layers) for r in (full, pruned)]
    yield "tokens in a layer, mean", f"{means[0]:.0f}", f"{means[1]:.0f}", times(*means)
    if full.flops.full:
        yield "prefill cost", flops(full.flops.pruned), flops(pruned.flops.pruned), times(full.flops.pruned, pruned.flops.pruned)
    for name, field in (("prefill", "prefill_s"), ("generate", "generate_s"), ("total", "total_s")):
        left, right = (getattr(r.timings, field) for r in (full, pruned))
        yield name, seconds(left), seconds(right), times(left, right)
    speeds = [tokens_per_second(r) for r in (full, pruned)]
    yield "answer tokens/s", *(f"{speed:.3g}" if speed else "-" for speed in speeds), times(speeds[1], speeds[0])  # type: ignore[misc]  # two
    for name, field in (("KV cache", "kv_mb"), ("peak memory", "peak_mb")):
        left, right = (getattr(r.memory, field) for r in (full, pruned))
        yield name, megabytes(left), megabytes(right), times(left, right)


def _words(report: Report) -> Text:
    text = clean(report.answer.text).strip()
    return Text(text) if text else Text("(nothing)", style="dim")


def _agreement(comparison: Comparison) -> Iterator[tuple[str, Text]]:
    at, kl = comparison.first_difference, comparison.first_token_kl
    where = "the same answer" if at is None else f"first difference at token {at + 1}"
    yield "agreement", joined(f"{share(comparison.agreement)} of the answer's tokens", where)
    yield "first token", joined(f"KL {kl:.3g} nats" if math.isfinite(kl) else "KL infinite")
