"""A published table, the commands that reproduce it, and its numbers beside one's own.

Knows: the figures of OmniDrop's Table 2 (arXiv 2605.14458, Qwen2.5-Omni-7B) and which arm stands for which row. Does not know: how an
evaluation runs. Frame cap, system prompt and wording are not given in the paper; the benchmarks' usual protocols are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnidrop_cli.errors import UsageError
from omnidrop_cli.evaluate import summary as summaries
from omnidrop_cli.evaluate.items import Row
from omnidrop_cli.evaluate.tables import percent, table


@dataclass(frozen=True, slots=True)
class PaperRow:
    """A row of a published table: accuracies in per cent by benchmark, seconds of prefill, gigabytes. Absent: not published."""

    title: str
    arm: str
    accuracy: Mapping[str, float]
    prefill_s: float | None = None
    memory_gb: float | None = None


@dataclass(frozen=True, slots=True)
class PaperTable:
    """A published table and the model it used."""

    name: str
    title: str
    model: str
    quant: str
    benchmarks: tuple[str, ...]
    rows: tuple[PaperRow, ...]
    notes: tuple[str, ...]


def _scores(videomme: float, worldsense: float, avut: float) -> dict[str, float]:
    return {"videomme": videomme, "worldsense": worldsense, "avut": avut}


OMNIDROP_TABLE_2 = PaperTable(
    name="omnidrop-table2",
    title="OmniDrop, Table 2: Qwen2.5-Omni-7B (arXiv 2605.14458)",
    model="7b",
    quant="none",
    benchmarks=("videomme", "worldsense", "avut"),
    rows=(
        PaperRow("full", "none", _scores(64.67, 46.85, 65.17), 1.73, 28.92),
        PaperRow("OmniZip, 30 %", "omnizip@0.3", _scores(65.85, 45.55, 61.76), 1.06, 25.76),
        PaperRow("DASH, 30 %", "dash@0.3", _scores(65.67, 45.87, 60.96), 1.07, 25.68),
        PaperRow("OmniDrop, 30 %", "omnidrop@paper-30", _scores(66.52, 46.60, 64.01), 1.05, 25.65),
        PaperRow("DASH, 20 %", "dash@0.2", {"avut": 60.09}),
        PaperRow("OmniDrop, 20 %", "omnidrop@paper-20", _scores(66.44, 46.50, 63.67), 1.04, 25.65),
    ),
    notes=(
        "The paper measured on one H100 in bf16 with FlashAttention; its prefill seconds seem to hold the towers too.",
        "Retention is a mean over layers; OmniZip's and DASH's 30 % is the share that enters the decoder.",
        "Sampling error at these sizes is about one point, so differences below two points mean little without the paired tests.",
    ),
)

TABLES = {table.name: table for table in (OMNIDROP_TABLE_2,)}


def find(name: str) -> PaperTable:
    """A published table by name. Raises `UsageError`."""
    if name not in TABLES:
        raise UsageError(f"unknown table '{name}'", f"known: {', '.join(TABLES)}")
    return TABLES[name]


def results_file(paper: PaperTable, benchmark: str) -> Path:
    """The results file, in the current directory, that the printed commands write."""
    return Path(f"{paper.name}-{benchmark}.jsonl")


def commands(paper: PaperTable, methods: Sequence[str]) -> list[str]:
    """One command line per benchmark, with the arms whose method is among `methods`."""
    arms = ",".join(row.arm for row in paper.rows if _method(row) in methods)
    return [
        f"omnidrop evaluate {benchmark} --data {benchmark.upper()}_DIR --model {paper.model} --quant {paper.quant} "
        f"--methods {arms} -o {results_file(paper, benchmark)}"
        for benchmark in paper.benchmarks
    ]


def markdown(paper: PaperTable, methods: Sequence[str], load: Callable[[Path], Mapping[str, Row]]) -> str:
    """The commands, and the paper's table with this machine's figures after each of the paper's ("-" where there are none yet).

    `load` reads a results file; a missing one is empty.
    """
    own = {benchmark: list(load(results_file(paper, benchmark)).values()) for benchmark in paper.benchmarks}
    left_out = sorted({_method(row) for row in paper.rows} - set(methods))
    notes = [*paper.notes, *([f"Not offered here, so left out of the commands: {', '.join(left_out)}."] if left_out else [])]
    header = ["paper / here", *(f"{name} %" for name in paper.benchmarks), "prefill s", "peak GB"]
    return (
        "\n\n".join(
            [
                f"# {paper.title}",
                "```\n" + "\n".join(commands(paper, methods)) + "\n```",
                table(header, (_cells(row, paper.benchmarks, own) for row in paper.rows)),
                "\n".join(f"- {note}" for note in notes),
            ]
        )
        + "\n"
    )


def _cells(row: PaperRow, benchmarks: Sequence[str], own: Mapping[str, Sequence[Row]]) -> list[str]:
    mine = {name: [r for r in own[name] if r.arm == row.arm and r.error is None] for name in benchmarks}
    measured = [r.measured for rows in mine.values() for r in rows if r.measured is not None]
    prefill = sorted(m.prefill_s + m.encode_s for m in measured if m.encode_s)
    return [
        row.title,
        *(f"{_paper(row.accuracy.get(name))} / {_score(mine[name])}" for name in benchmarks),
        f"{_paper(row.prefill_s)} / {f'{prefill[len(prefill) // 2]:.2f}' if prefill else '-'}",
        f"{_paper(row.memory_gb)} / {f'{max(m.peak_mb for m in measured) / 1e3:.2f}' if measured else '-'}",
    ]


def _score(rows: Sequence[Row]) -> str:
    if not rows:
        return "-"
    score = summaries.score(rows)
    return f"{percent(score.accuracy, 2)} [{percent(score.low)}, {percent(score.high)}]"


def _paper(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _method(row: PaperRow) -> str:
    return row.arm.partition("@")[0]
