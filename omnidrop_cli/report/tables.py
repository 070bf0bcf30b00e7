"""A report for the terminal: one summary line, or the full table of tokens by layer, times and memory.

In: a `Report`, fresh or read from JSON. Out: Rich renderables for 40 to 200 columns, with or without colours, in Unicode or ASCII.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from rich.text import Text

from omnidrop_cli.outputs import ClipFacts, Counts, LoadedModel, Report
from omnidrop_cli.report.columns import Column, DataTable, Phrases, facts, phrases
from omnidrop_cli.report.numbers import flops, megabytes, percent, seconds, share, times
from omnidrop_cli.report.text import one_line

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

MAX_ROWS = 12
"""Rows of the layer table, the prompt's included: a report then fits on 24 lines."""

BAR_FROM = 64
"""Columns from which the layer table has bars."""

NUMBERS_WIDTH = 46
"""Columns the layer table's numbers take."""

KEPT, GONE = "\u2501", "\u2500"
ASCII_KEPT, ASCII_GONE = "#", "-"


@dataclass(frozen=True, slots=True)
class LayerRun:
    """Neighbouring layers in one row: mean tokens entering a layer, by modality. `exact`: all of them have these counts."""

    first: int
    last: int
    text: float
    audio: float
    video: float
    exact: bool = True

    @property
    def name(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"

    @property
    def layers(self) -> int:
        return self.last - self.first + 1

    @property
    def counts(self) -> tuple[float, float, float]:
        return self.text, self.audio, self.video

    @property
    def media(self) -> float:
        return self.audio + self.video

    def merged(self, following: LayerRun) -> LayerRun:
        """This run and the one after it as one."""
        if self.counts == following.counts:
            return replace(self, last=following.last, exact=self.exact and following.exact)
        weight = self.layers / (self.layers + following.layers)
        text, audio, video = (weight * ours + (1 - weight) * theirs for ours, theirs in zip(self.counts, following.counts, strict=True))
        return LayerRun(self.first, following.last, text, audio, video, exact=False)

    def spread_added(self, following: LayerRun) -> float:
        """Increase of the summed squared deviation of audio and video tokens if both became one row (Ward's criterion)."""
        return self.layers * following.layers / (self.layers + following.layers) * (self.media - following.media) ** 2


@dataclass(frozen=True, slots=True)
class SummaryLine:
    """One dim line on a report: `kept 30 % · prefill 40 ms · first token 0.4 s · 2.1 GB`."""

    report: Report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        separator = " | " if options.ascii_only else " \u00b7 "
        yield Phrases(tuple(summary(self.report)), separator, "dim")


@dataclass(frozen=True, slots=True)
class ChoicesLine:
    """The answers a question allowed, the most probable first, after the method's name: `omnidrop: yes 83 % · no 17 %`."""

    report: Report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ranked = sorted(self.report.answer.choices, key=lambda choice: -choice.probability)
        pieces = tuple(
            f"{one_line(choice.text)} {percent(choice.probability) if choice.probability >= 0.001 else '<0.1 %'}" for choice in ranked
        )
        separator = " | " if options.ascii_only else " \u00b7 "
        yield Phrases((f"{one_line(self.report.method)}: {pieces[0]}", *pieces[1:]), separator)


@dataclass(frozen=True, slots=True)
class ReportTable:
    """Renders a report: tokens by layer, then retention, cost, times, memory, the clip as it was read, warnings.

    `shown` are warnings the user has seen already.
    """

    report: Report
    shown: frozenset[str] = frozenset()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield layer_table(self.report, options.max_width, ascii_only=options.ascii_only)
        yield facts(_facts(self.report))
        yield from warning_lines(self.report.warnings, self.shown)


def summary(report: Report) -> Iterator[str]:
    """The phrases of the summary line."""
    if report.prompt.media:
        retention = report.trace.retention_after
        yield f"kept {percent(retention)}" if retention < 1 else "nothing pruned"
    yield f"prefill {seconds(report.timings.prefill_s)}"
    t = report.timings
    yield f"answer {seconds(t.total_s)}" if _comes_whole(report) else f"first token {seconds(t.first_token_s)}"
    yield megabytes(report.memory.peak_mb)


def layer_runs(entering: Sequence[Counts], limit: int | None = None) -> list[LayerRun]:
    """Layers with equal counts folded into one row; then, down to `limit` rows, the neighbours that differ least."""
    runs: list[LayerRun] = []
    for layer, counts in enumerate(entering):
        run = LayerRun(layer, layer, counts.text, counts.audio, counts.video)
        if runs and runs[-1].counts == run.counts:
            runs[-1] = runs[-1].merged(run)
        else:
            runs.append(run)
    while limit is not None and len(runs) > max(1, limit):
        at = min(range(len(runs) - 1), key=lambda index: runs[index].spread_added(runs[index + 1]))
        runs[at : at + 2] = [runs[at].merged(runs[at + 1])]
    return runs


def layer_table(report: Report, width: int = 80, *, ascii_only: bool = False) -> DataTable:
    """Tokens entering each layer, by modality, and what share of the audio and video tokens that is; at most `MAX_ROWS` rows.

    A row of layers whose counts differ shows their means, each after a tilde.
    """
    columns = [Column("layer", right=False), Column("text", 1), Column("audio"), Column("video"), Column("total", 2), Column("kept")]
    bars = width >= BAR_FROM and report.prompt.media > 0
    if bars:
        columns.append(Column("audio and video kept", 3, right=False))
    prompt = report.prompt
    runs = layer_runs(report.trace.entering, MAX_ROWS - 1)
    named = [("prompt", LayerRun(0, 0, prompt.text, prompt.audio, prompt.video)), *((run.name, run) for run in runs)]
    cells = max(20, min(48, width - NUMBERS_WIDTH))
    rows: list[tuple[str | Text, ...]] = []
    for name, run in named:
        left = run.media / prompt.media if prompt.media else 1.0
        counts = (_count(value, run.exact) for value in (run.audio, run.video, run.text + run.media))
        rows.append((name, f"{run.text:.0f}", *counts, share(left), *([bar(left, cells, ascii_only=ascii_only)] if bars else [])))
    return DataTable(tuple(columns), tuple(rows), dim=frozenset({0}))


def bar(left: float, cells: int, *, ascii_only: bool = False, style: str = "cyan") -> Text:
    """A bar of `cells` characters, `left` (0 to 1) of them filled; something that is not nothing fills at least one."""
    kept, gone = (ASCII_KEPT, ASCII_GONE) if ascii_only else (KEPT, GONE)
    filled = min(cells, max(1, round(left * cells))) if left > 0 else 0
    return Text(kept * filled, style=style).append(gone * (cells - filled), style="dim")


def warning_lines(warnings: Sequence[str], shown: frozenset[str]) -> Iterator[Text]:
    """One line per warning that the user has not seen."""
    for warning in dict.fromkeys(warnings):
        if warning not in shown:
            yield Text(f"warning: {one_line(warning)}", style="yellow")


def tokens_per_second(report: Report) -> float:
    """Answer tokens over the seconds of the decode loop; 0 where nothing was generated."""
    spent = report.timings.generate_s
    return len(report.answer.token_ids) / spent if spent > 0 else 0.0


def _count(value: float, exact: bool) -> str:
    return f"{value:.0f}" if exact else f"~{value:.0f}"


def _facts(report: Report) -> Iterator[tuple[str, Phrases]]:
    trace = report.trace
    if report.prompt.media:
        yield "retention", phrases(f"{share(trace.retention_after)} after each cut", f"{share(trace.retention_entering)} entering a layer")
    if report.flops.full:
        saved = 1 - report.flops.ratio
        cost = f"{flops(report.flops.pruned)} of {flops(report.flops.full)}" if saved > 0 else flops(report.flops.full)
        with_encoders = 1 - report.flops.ratio_with_encoders
        yield (
            "prefill",
            phrases(
                cost,
                f"{share(saved)} saved" if saved > 0 else "nothing pruned",
                f"{share(with_encoders)} with the encoders' {flops(report.flops.encoders)}" if saved > 0 and report.flops.encoders else "",
            ),
        )
    yield "time", _timings(report)
    yield "answer", _answer(report)
    yield "memory", _memory(report)
    for number, clip in enumerate(report.clips, 1):
        several = len(report.clips) > 1
        yield (
            f"clip {number}" if several else "clip",
            phrases(PurePath(report.job.all_media[number - 1]).name if several else "", *_clip(clip)),
        )
    yield "model", _model(report.model)
    yield "method", phrases(report.method, *_budget(report))


def _model(model: LoadedModel) -> Phrases:
    head = f"{model.quant_head} output matrix" if model.quant_head != "none" else ""
    return phrases(model.name, model.quant, head, model.dtype, model.device, model.attention)


def _timings(report: Report) -> Phrases:
    t = report.timings
    stages = {"fetch": t.fetch_s, "load": t.load_s, "decode": t.decode_s, "prompt": t.build_s, "encode": t.encode_s, "prefill": t.prefill_s}
    spent = [f"{name} {seconds(value)}" for name, value in {**stages, "generate": t.generate_s}.items() if value >= 0.0005]
    if report.features_reused:
        spent.append("encoded before")
    if not _comes_whole(report):
        spent.append(f"first token after {seconds(t.first_token_s)}")
    return phrases(*spent, f"total {seconds(t.total_s)}")


def _comes_whole(report: Report) -> bool:
    """Whether nothing of the answer can be seen before its end: JSON of a schema, or one of the given choices."""
    return report.job.generation.schema is not None or bool(report.answer.choices)


def _answer(report: Report) -> Phrases:
    count, rate = len(report.answer.token_ids), tokens_per_second(report)
    ends = {
        "eos": "",
        "length": "cut at its maximum length",
        "stop": "ended by a stop text",
        "choice": "one of the given choices",
    }
    reason = ends.get(report.answer.finish_reason, report.answer.finish_reason)
    drafts = report.answer.drafts
    drafted = f"{drafts.accepted} of {drafts.drafted} drafted tokens taken in {drafts.steps} steps" if drafts else ""
    return phrases(f"{count} token{'s' * (count != 1)}", f"{rate:.3g} tokens/s" if rate else "", drafted, reason)


def _memory(report: Report) -> Phrases:
    m = report.memory
    ratio = f" of {megabytes(m.kv_full_mb)} ({times(m.kv_full_mb, m.kv_mb)} less)" if m.kv_full_mb > m.kv_mb > 0 else ""
    return phrases(f"peak {megabytes(m.peak_mb)} {m.kind}", f"weights {megabytes(m.weights_mb)}", f"KV {megabytes(m.kv_mb)}{ratio}")


def _clip(clip: ClipFacts) -> tuple[str, ...]:
    """Effective values, never the requested ones."""
    video = ""
    if clip.frames and clip.frame_size is not None:
        rate = f" at {clip.fps:.3g} fps" if clip.fps else ""
        video = f"{clip.frames} frames of {clip.frame_size[1]}x{clip.frame_size[0]}{rate}"
    part = f"from {seconds(clip.start_s)}" if clip.start_s else ""
    audio = f"{seconds(clip.audio_s)} of audio" if clip.audio_s else "no audio"
    return f"{seconds(clip.duration_s)} of {seconds(clip.source.duration_s)}", part, video or "no video", audio


def _budget(report: Report) -> Iterator[str]:
    asked = report.job.method
    if asked.preset:
        yield asked.preset
    elif asked.keep is not None:
        yield f"keep {asked.keep:g}"
    for name, value in asked.options.items():
        yield f"{name}={value}"
