"""A comparison for the terminal: the same prompt answered unpruned and pruned, figures and answers side by side.

In: a `Comparison`, fresh or read from JSON. Out: Rich renderables for 40 to 200 columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from rich.text import Text

from omnidrop_cli.outputs import Comparison, Timings
from omnidrop_cli.report.alignment import AlignedPiece, Alignment, align
from omnidrop_cli.report.columns import Column, DataTable, Phrases, facts, phrases
from omnidrop_cli.report.numbers import flops_short, megabytes, seconds, seconds_span, share, times
from omnidrop_cli.report.tables import layer_table, tokens_per_second, warning_lines
from omnidrop_cli.report.text import clean, one_line

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

DIFFERENT = ("bold underline red", "bold underline green")
"""Styles of words that only the full and only the pruned answer has."""

BRACKETS = (("[-", "-]"), ("{+", "+}"))
"""The same where no colour is shown, in the notation of wdiff and git."""

SPREAD = "  min-max"
"""Name of the rows that show the spread of repeated rounds."""


@dataclass(frozen=True, slots=True)
class ComparisonTable:
    """Renders a comparison: the pruned run's layers, the figures, both answers with their difference marked, and the agreement.

    `shown` are warnings the user has seen already.
    """

    comparison: Comparison
    shown: frozenset[str] = frozenset()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        full, pruned = self.comparison.full, self.comparison.pruned
        plain = console.color_system is None or console.no_color
        yield layer_table(pruned, options.max_width, ascii_only=options.ascii_only)
        yield Text()
        yield figures(self.comparison)
        yield Text()
        yield facts(_answers(self.comparison, plain))
        yield from warning_lines((*full.warnings, *pruned.warnings), self.shown)


def figures(comparison: Comparison) -> DataTable:
    """Tokens, FLOPs, seconds and memory of both runs, and their ratio.

    Ratios are full over pruned, so above 1 the pruned run is cheaper; of a speed they are pruned over full. Of repeated rounds the
    seconds are medians, with the lowest and the highest in a row below.
    """
    names = "full", one_line(comparison.pruned.method), "ratio"
    rows = tuple(_rows(comparison))
    dim = frozenset(number for number, row in enumerate(rows) if row[0] == SPREAD)
    return DataTable((Column("", right=False), *map(Column, names)), rows, dim)


def _rows(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    full, pruned = comparison.full, comparison.pruned
    means = [sum(report.trace.kv_lengths) / max(1, report.trace.num_layers) for report in (full, pruned)]
    yield "tokens/layer", f"{means[0]:.0f}", f"{means[1]:.0f}", times(*means)
    if full.flops.full:
        costs = full.flops.pruned, pruned.flops.pruned
        yield "prefill FLOPs", *map(flops_short, costs), times(*costs)
    for name, left, right in _seconds(comparison):
        yield name, seconds(median(left)), seconds(median(right)), times(median(left), median(right))
        if len(left) > 1:
            yield SPREAD, _span(left), _span(right), _ratio_span(left, right)
    speeds = [tokens_per_second(report) for report in (full, pruned)]
    yield "tokens/s", *(f"{speed:.3g}" if speed else "-" for speed in speeds), times(speeds[1], speeds[0])
    for name, field in (("KV cache", "kv_mb"), ("peak memory", "peak_mb")):
        sizes = [getattr(report.memory, field) for report in (full, pruned)]
        yield name, *map(megabytes, sizes), times(*sizes)


def _seconds(comparison: Comparison) -> Iterator[tuple[str, list[float], list[float]]]:
    """A stage, and its seconds in every measured round of the full and of the pruned run; stages that were not repeated have one."""
    full, pruned = (
        (comparison.full.timings, comparison.full_repeats or (comparison.full.timings,)),
        (comparison.pruned.timings, comparison.pruned_repeats or (comparison.pruned.timings,)),
    )
    for name, measure in (("prefill", _prefills), ("generate", _generations), ("all but load", _totals)):
        yield name, measure(*full), measure(*pruned)


def _prefills(own: Timings, rounds: Sequence[Timings]) -> list[float]:
    return [one.prefill_s for one in rounds]


def _generations(own: Timings, rounds: Sequence[Timings]) -> list[float]:
    return [one.generate_s for one in rounds if one.generate_s > 0] or [own.generate_s]


def _totals(own: Timings, rounds: Sequence[Timings]) -> list[float]:
    """Every stage but loading, which both runs share and which would hide their difference."""
    others = own.fetch_s + own.decode_s + own.build_s + own.encode_s + own.generate_s
    return [others + one.prefill_s for one in rounds]


def _span(values: Sequence[float]) -> str:
    return seconds_span(min(values), max(values), median(values))


def _ratio_span(full: Sequence[float], pruned: Sequence[float]) -> str:
    """The lowest and the highest ratio within a round."""
    ratios = [one / other for one, other in zip(full, pruned, strict=False) if one > 0 and other > 0]
    return f"{min(ratios):.1f}-{max(ratios):.1f}" if ratios else "-"


def _answers(comparison: Comparison, plain: bool) -> Iterator[tuple[str, RenderableType]]:
    full, pruned = comparison.full, comparison.pruned
    aligned = align(*(clean(report.answer.text).strip() for report in (full, pruned)))
    yield "full", _marked(aligned.first, 0, plain)
    yield pruned.method, _marked(aligned.second, 1, plain)
    yield "agreement", _agreement(comparison, aligned)
    kl = comparison.first_token_kl
    yield "first token", phrases(f"KL {kl:.3g} nats" if math.isfinite(kl) else "KL infinite")


def _marked(pieces: Sequence[AlignedPiece], side: int, plain: bool) -> Text:
    if not pieces:
        return Text("(nothing)", style="dim")
    text, (opening, closing) = Text(overflow="fold"), BRACKETS[side]
    for piece in pieces:
        if piece.equal:
            text.append(piece.text)
        elif plain:
            text.append(f"{opening}{piece.text}{closing}")
        else:
            text.append(piece.text, style=DIFFERENT[side])
    return text


def _agreement(comparison: Comparison, aligned: Alignment) -> Phrases:
    if comparison.full.answer.text == comparison.pruned.answer.text:
        return phrases("the same answer")
    if aligned.matched == aligned.longest:
        return phrases("the same words", "punctuation, case or space differ")
    return phrases(f"{share(aligned.agreement)} of the words", f"{aligned.matched} of {aligned.longest} in common")
