"""Surviving tokens for the terminal: bars per layer and modality, and a time line of how deep each second survives.

In: a `Report`, fresh or read from JSON with its kept tokens. Out: Rich renderables for 40 to 200 columns, in Unicode or ASCII.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from rich.text import Text

from omnidrop_cli.outputs import Modality, Report, TokenMap
from omnidrop_cli.report.numbers import clock, percent
from omnidrop_cli.report.tables import MAX_ROWS, bar, layer_runs
from omnidrop_cli.report.text import one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console, ConsoleOptions, RenderResult

STYLES = {Modality.AUDIO: "yellow", Modality.VIDEO: "cyan"}
NAMES = {Modality.AUDIO: "audio", Modality.VIDEO: "video"}

LEVELS, ASCII_LEVELS = " \u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588", " .:-=+*#@"
"""Nothing, then eight steps up to all layers."""

MAX_WIDTH = 120
"""Wider terminals leave the rest empty: longer bars add no information."""

TICK_WIDTH = 16
"""Fewest columns from one label of the time axis to the next."""


@dataclass(frozen=True, slots=True)
class KeptView:
    """Renders which share of the audio and of the video tokens each layer sees, and down to which layer each second of the clip is kept."""

    report: Report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, MAX_WIDTH)
        yield from layer_bars(self.report, width, ascii_only=options.ascii_only)
        if self.report.token_map is not None and self.report.trace.kept:
            yield Text()
            yield from time_line(self.report, self.report.token_map, width, ascii_only=options.ascii_only)


def layer_bars(report: Report, width: int, *, ascii_only: bool = False) -> Iterator[Text]:
    """One line per row of the layer table, a bar and a percentage for each modality of the prompt."""
    totals = {Modality.AUDIO: report.prompt.audio, Modality.VIDEO: report.prompt.video}
    shown = [modality for modality, total in totals.items() if total]
    runs = layer_runs(report.trace.entering, MAX_ROWS)
    label = max(5, *(len(run.name) for run in runs))
    cells = (width - label - len(shown) * (6 + 2)) // max(1, len(shown))  # "  bar 100 %"
    if not shown or cells < 3:
        return
    heads = "".join(f"  {NAMES[modality]:<{cells + 6}}" for modality in shown)
    yield Text(f"{'layer':<{label}}{heads}".rstrip(), style="bold", no_wrap=True)
    for run in runs:
        line = Text(f"{run.name:<{label}}", no_wrap=True)
        for modality, kept in ((Modality.AUDIO, run.audio), (Modality.VIDEO, run.video)):
            if totals[modality]:
                share = kept / totals[modality]
                line.append("  ").append_text(bar(share, cells, ascii_only=ascii_only, style=STYLES[modality]))
                line.append(f" {percent(share):>5}")
        yield line


def time_line(report: Report, tokens: TokenMap, width: int, *, ascii_only: bool = False) -> Iterator[Text]:
    """Per clip, a row per modality whose height is the share of the layers that have the tokens of that moment, and a time axis."""
    levels = ASCII_LEVELS if ascii_only else LEVELS
    cells = width - 7
    depth = report.trace.layers_entered() / max(1, report.trace.num_layers)
    yield Text("share of the layers that see each moment", style="bold", no_wrap=True, overflow="ellipsis")
    for number, (media, clip) in enumerate(zip(report.job.all_media, report.clips, strict=True)):
        if len(report.clips) > 1:
            yield Text(one_line(f"clip {number + 1}: {PurePath(media).name}"), no_wrap=True, overflow="ellipsis")
        for modality in (Modality.AUDIO, Modality.VIDEO):
            rows = tokens.rows(modality)
            rows = rows[tokens.clip[rows] == number]
            if len(rows):
                heights = moment_means(tokens.time_s[rows], depth[rows], clip.duration_s, cells)
                drawn = "".join(levels[_level(height, len(levels) - 1)] for height in heights)
                yield Text(f"{NAMES[modality]:<7}", no_wrap=True).append(drawn, style=STYLES[modality])
        yield Text(" " * 7 + _axis(clip.start_s, clip.duration_s, cells), style="dim", no_wrap=True)


def moment_means(at_s: NDArray[np.float32], values: NDArray[np.float64], duration_s: float, cells: int) -> list[float]:
    """Mean of the values in each of `cells` equal parts of the clip; a part without a token has the value of the one before it."""
    import numpy as np

    end = max(duration_s, float(at_s.max()) + 1e-6)
    place = (at_s / end * cells).astype(np.int64).clip(0, cells - 1)
    sums, counts = np.bincount(place, values, cells), np.bincount(place, minlength=cells)
    latest = np.maximum.accumulate(np.where(counts > 0, np.arange(cells), -1)).clip(min=place.min())
    found: list[float] = (sums[latest] / counts[latest]).tolist()
    return found


def _level(height: float, top: int) -> int:
    """0 for nothing; otherwise at least 1."""
    return max(1, round(height * top)) if height > 0 else 0


def _axis(start_s: float, duration_s: float, cells: int) -> str:
    """Labels of equal distance, the first at the left end, the last at the right; one that would touch another is left out."""
    ticks = max(1, cells // TICK_WIDTH)
    line, taken = [" "] * cells, cells + 1
    for tick in range(ticks, -1, -1):
        label = clock(start_s + duration_s * tick / ticks, fine=duration_s < 10)
        at = min(round(cells * tick / ticks), cells - len(label))
        if at >= 0 and at + len(label) < taken:
            line[at : at + len(label)], taken = label, at
    return "".join(line).rstrip()
