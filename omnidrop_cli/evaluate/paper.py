"""The commands that reproduce a published table, and its figures with one's own behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median

from omnidrop_cli.evaluate import summary as summaries
from omnidrop_cli.evaluate.items import Measured, Row
from omnidrop_cli.evaluate.paper_tables import PaperRow, PaperTable
from omnidrop_cli.evaluate.score_tables import percent, table


def results_file(paper: PaperTable, benchmark: str) -> Path:
    """The results file, in the current directory, that the printed commands write."""
    return Path(f"{paper.name}-{benchmark}.jsonl")


def commands(paper: PaperTable, methods: Sequence[str]) -> list[str]:
    """One command line per benchmark, with the rows whose method is among `methods`."""
    offered = ",".join(row.method for row in paper.rows if _method(row) in methods)
    return [
        f"omnidrop evaluate {benchmark} --data {benchmark.upper()}_DIR --model {paper.model} --quant {paper.quant} "
        f"--attn {paper.attention} --timing published "
        + "".join(f"{flags} " for name, flags in paper.options.items() if name == benchmark)
        + f"--methods {offered} -o {results_file(paper, benchmark)}"
        for benchmark in paper.benchmarks
    ]


def markdown(paper: PaperTable, methods: Sequence[str], load: Callable[[Path], Mapping[str, Row]]) -> str:
    """The commands, and the paper's table with this machine's figures after each of the paper's ("-" where there are none yet).

    `load` reads a results file; a missing one is empty.
    """
    found = {benchmark: list(load(results_file(paper, benchmark)).values()) for benchmark in paper.benchmarks}
    own = {benchmark: [row for row in rows if row.settings.get("timing") == "published"] for benchmark, rows in found.items()}
    uncounted = sum(map(len, found.values())) - sum(map(len, own.values()))
    left_out = sorted({_method(row) for row in paper.rows} - set(methods))
    notes = [
        *paper.notes,
        *([f"Not offered here, so left out of the commands: {', '.join(left_out)}."] if left_out else []),
        *([f"{uncounted} results were made with --timing true and are not in this table."] if uncounted else []),
    ]
    header = ["paper / here", *(f"{name} %" for name in paper.benchmarks), *_cost_columns(paper)]
    parts = [
        f"# {paper.title}",
        "```\n" + "\n".join(commands(paper, methods)) + "\n```",
        table(header, (_cells(row, paper, own) for row in paper.rows)),
        "\n".join(f"- {note}" for note in notes),
    ]
    return "\n\n".join(parts) + "\n"


def _cost_columns(paper: PaperTable) -> list[str]:
    """What of the cost the paper published."""
    return [name for name, (published, _) in _COSTS.items() if any(published(row) is not None for row in paper.rows)]


def _cells(row: PaperRow, paper: PaperTable, own: Mapping[str, Sequence[Row]]) -> list[str]:
    mine = {name: [r for r in own[name] if r.method == row.method and r.error is None] for name in paper.benchmarks}
    measured = [r.measured for rows in mine.values() for r in rows if r.measured is not None]
    costs = [(published(row), here(measured) if measured else None) for published, here in (_COSTS[name] for name in _cost_columns(paper))]
    return [
        row.title,
        *(f"{_figure(row.accuracy.get(name))} / {_score(mine[name])}" for name in paper.benchmarks),
        *(f"{_figure(published)} / {_figure(here)}" for published, here in costs),
    ]


def _prefill_s(measured: Sequence[Measured]) -> float | None:
    """The papers' prefill seconds include the encoders, which ran for the first question of a clip only."""
    seconds = [m.prefill_s + m.encode_s for m in measured if m.encode_s]
    return median(seconds) if seconds else None


_COSTS: Mapping[str, tuple[Callable[[PaperRow], float | None], Callable[[Sequence[Measured]], float | None]]] = {
    "prefill s": (lambda row: row.prefill_s, _prefill_s),
    "peak GB": (lambda row: row.memory_gb, lambda measured: max(m.peak_mb for m in measured) / 1e3),
    "TFLOPs": (lambda row: row.tflops, lambda measured: fmean(m.flops_pruned for m in measured) / 1e12),
}
"""Column to the paper's figure and the one measured here."""


def _score(rows: Sequence[Row]) -> str:
    if not rows:
        return "-"
    score = summaries.score(rows)
    return f"{percent(score.accuracy, 2)} [{percent(score.low)}, {percent(score.high)}]"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _method(row: PaperRow) -> str:
    return row.method.partition("@")[0].partition(":")[0]
