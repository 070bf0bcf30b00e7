"""A report as a table for the terminal.

Knows: how a `Report` reads on 80 columns, on fewer, and without colours. Does not know how it came to be: one that was saved renders
the same. Everything here is `Text` built piece by piece; nothing from outside is parsed as markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from omnidrop_cli.outputs import Counts, Report
from omnidrop_cli.report.numbers import flops, megabytes, seconds, share, times
from omnidrop_cli.report.text import clean, one_line

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

BAR_CELLS = 24
BAR_FROM = 72
"""Columns from which the bars fit beside the figures."""

KEPT, GONE = "\u2501", "\u2500"


@dataclass(frozen=True, slots=True)
class LayerRun:
    """Neighbouring layers that see equally many tokens of each kind."""

    first: int
    last: int
    counts: Counts

    @property
    def name(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class ReportTable:
    """Renders a report: tokens by layer, then retention, cost, times, memory, the clip as it was read, warnings.

    `said` are warnings the user has seen already.
    """

    report: Report
    said: frozenset[str] = frozenset()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield layer_table(self.report, options.max_width)
        yield facts(_facts(self.report))
        for warning in self.report.warnings:
            if warning not in self.said:
                yield Text(f"warning: {one_line(warning)}", style="yellow")


def layer_runs(entering: Sequence[Counts]) -> list[LayerRun]:
    """Layers folded where nothing changes: 28 equal ones are one row."""
    runs: list[LayerRun] = []
    for layer, counts in enumerate(entering):
        if runs and runs[-1].counts == counts:
            runs[-1] = LayerRun(runs[-1].first, layer, counts)
        else:
            runs.append(LayerRun(layer, layer, counts))
    return runs


def layer_table(report: Report, width: int = 80) -> RenderableType:
    """Tokens entering each layer, by modality, and what share of the audio and video tokens that is."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    table.add_column("layer", no_wrap=True)
    for name in ("text", "audio", "video", "total", "kept"):
        table.add_column(name, justify="right", no_wrap=True)
    bars = width >= BAR_FROM and report.prompt.media > 0
    if bars:
        table.add_column("audio and video kept", no_wrap=True)
    rows = [("prompt", report.prompt), *((run.name, run.counts) for run in layer_runs(report.trace.entering))]
    for name, counts in rows:
        left = counts.media / report.prompt.media if report.prompt.media else 1.0
        cells: list[RenderableType] = [name, *map(str, (counts.text, counts.audio, counts.video, counts.total)), share(left)]
        table.add_row(*cells, *([_bar(left)] if bars else []), style="dim" if name == "prompt" else None)
    return table


def facts(lines: Iterable[tuple[str, Text]]) -> RenderableType:
    """Names on the left, what is known on the right."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in lines:
        table.add_row(Text(clean(name)), text)
    return table


def joined(*pieces: str) -> Text:
    """The pieces that are not empty, with commas between them."""
    return Text(", ".join(filter(None, map(one_line, pieces))))


def tokens_per_second(report: Report) -> float:
    """Answer tokens over the seconds of the decode loop; 0 where nothing was generated."""
    spent = report.timings.generate_s
    return len(report.answer.token_ids) / spent if spent > 0 else 0.0


def _bar(left: float) -> Text:
    cells = max(1, round(left * BAR_CELLS)) if left > 0 else 0
    return Text(KEPT * cells, style="cyan").append(GONE * (BAR_CELLS - cells), style="dim")


def _facts(report: Report) -> Iterator[tuple[str, Text]]:
    trace = report.trace
    if report.prompt.media:
        yield "retention", joined(f"{share(trace.retention_after)} after each cut", f"{share(trace.retention_entering)} entering a layer")
    if report.flops.full:
        saved = 1 - report.flops.ratio
        cost = f"{flops(report.flops.pruned)} of {flops(report.flops.full)}" if saved > 0 else flops(report.flops.full)
        yield "prefill", joined(cost, f"{share(saved)} saved" if saved > 0 else "nothing pruned")
    yield "time", _timings(report)
    yield "answer", _answer(report)
    yield "memory", _memory(report)
    yield "clip", _clip(report)
    yield "model", joined(report.model.name, report.model.quant, report.model.dtype, report.model.device, report.model.attention)
    yield "method", joined(report.method, *_budget(report))


def _timings(report: Report) -> Text:
    t = report.timings
    stages = {"fetch": t.fetch_s, "load": t.load_s, "decode": t.decode_s, "prompt": t.build_s, "encode": t.encode_s, "prefill": t.prefill_s}
    told = [f"{name} {seconds(value)}" for name, value in {**stages, "generate": t.generate_s}.items() if value >= 0.0005]
    if report.features_reused:
        told.append("encoded before")
    return joined(*told, f"first token after {seconds(t.first_token_s)}", f"total {seconds(t.total_s)}")


def _answer(report: Report) -> Text:
    count, rate = len(report.answer.token_ids), tokens_per_second(report)
    ends = {"eos": "", "length": "cut at --max-new-tokens", "stop": "ended by --stop", "interrupted": "interrupted"}
    reason = ends.get(report.answer.finish_reason, report.answer.finish_reason)
    return joined(f"{count} token{'s' * (count != 1)}", f"{rate:.3g} tokens/s" if rate else "", reason)


def _memory(report: Report) -> Text:
    m = report.memory
    ratio = f" of {megabytes(m.kv_full_mb)} ({times(m.kv_full_mb, m.kv_mb)} less)" if m.kv_full_mb > m.kv_mb > 0 else ""
    return joined(f"peak {megabytes(m.peak_mb)} {m.kind}", f"weights {megabytes(m.weights_mb)}", f"KV {megabytes(m.kv_mb)}{ratio}")


def _clip(report: Report) -> Text:
    """Effective values, never the requested ones."""
    pictures = ""
    if report.frames and report.frame_size is not None:
        rate = f" at {report.fps:.3g} fps" if report.fps else ""
        pictures = f"{report.frames} frames of {report.frame_size[1]}x{report.frame_size[0]}{rate}"
    part = f"from {seconds(report.clip_start_s)}" if report.clip_start_s else ""
    sound = f"{seconds(report.audio_s)} of sound" if report.audio_s else "no sound"
    return joined(f"{seconds(report.clip_duration_s)} of {seconds(report.source.duration_s)}", part, pictures or "no pictures", sound)


def _budget(report: Report) -> Iterator[str]:
    asked = report.job.method
    if asked.preset:
        yield asked.preset
    elif asked.keep is not None:
        yield f"keep {asked.keep:g}"
    for name, value in asked.options.items():
        yield f"{name}={value}"
