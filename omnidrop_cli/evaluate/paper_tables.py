"""Published tables of Qwen2.5-Omni-7B: their figures, and the method that stands for each row.

Figures: arXiv 2605.14458 (OmniDrop), Table 2; arXiv 2605.20035 (SEATS), Table 1 with its repository's settings (xxayt/SEATS@c553732).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from omnidrop_cli.errors import UsageError
from omnidrop_cli.suggest import did_you_mean


@dataclass(frozen=True, slots=True)
class PaperRow:
    """A row of a published table. Absent figures were not published.

    Args:
        method: The method with its budget, as --methods takes it.
        accuracy: Benchmark to per cent.
        prefill_s: Seconds of prefill. `memory_gb` is gigabytes.
        tflops: TFLOPs of a prefill.
    """

    title: str
    method: str
    accuracy: Mapping[str, float]
    prefill_s: float | None = None
    memory_gb: float | None = None
    tflops: float | None = None


@dataclass(frozen=True, slots=True)
class PaperTable:
    """A published table and what its runs were given.

    Args:
        options: Benchmark to its own flags beyond its usual protocol.
        attention: The decoder's attention implementation, as --attn takes it.
    """

    name: str
    title: str
    model: str
    quant: str
    benchmarks: tuple[str, ...]
    rows: tuple[PaperRow, ...]
    notes: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    attention: str = "flash_attention_2"


_TIMING_NOTE = (
    "--timing published: the pipeline behind the table takes one second per pair of frames for every clip, and the answers change with it."
)
_ATTENTION_NOTE = (
    "--attn flash_attention_2, as published; it needs a GPU and the package flash-attn. Leave the flag out without them: times and memory "
    "then differ. Methods rank by encoder attention over what their own code takes (omnizip, dash, omnidrop: the clip; seats: two seconds)."
)
_SAMPLING_NOTE = "Sampling error at these sizes is about one point, so differences below two points mean little without the paired tests."


def _omnidrop(videomme: float, worldsense: float, avut: float) -> dict[str, float]:
    return {"videomme": videomme, "worldsense": worldsense, "avut": avut}


def _seats(worldsense: float, dailyomni: float, videomme: float) -> dict[str, float]:
    return {"worldsense": worldsense, "dailyomni": dailyomni, "videomme": videomme}


OMNIDROP_TABLE_2 = PaperTable(
    name="omnidrop-table2",
    title="OmniDrop, Table 2: Qwen2.5-Omni-7B (arXiv 2605.14458)",
    model="7b",
    quant="none",
    benchmarks=("videomme", "worldsense", "avut"),
    rows=(
        PaperRow("full", "none", _omnidrop(64.67, 46.85, 65.17), 1.73, 28.92),
        PaperRow("OmniZip, 30 %", "omnizip@0.3:frames=halves:spatial=v1", _omnidrop(65.85, 45.55, 61.76), 1.06, 25.76),
        PaperRow("DASH, 30 %", "dash@paper", _omnidrop(65.67, 45.87, 60.96), 1.07, 25.68),
        PaperRow("OmniDrop, 30 %", "omnidrop@paper-30", _omnidrop(66.52, 46.60, 64.01), 1.05, 25.65),
        PaperRow("DASH, 20 %", "dash@0.2:frames=halves", {"avut": 60.09}),
        PaperRow("OmniDrop, 20 %", "omnidrop@paper-20", _omnidrop(66.44, 46.50, 63.67), 1.04, 25.65),
    ),
    notes=(
        "The paper measured on one H100 in bf16 with FlashAttention; its prefill seconds seem to include the encoders.",
        "Retention is a mean over layers; OmniZip's and DASH's 30 % is the share that enters the decoder.",
        _TIMING_NOTE,
        _ATTENTION_NOTE,
        _SAMPLING_NOTE,
    ),
)

SEATS_TABLE_1 = PaperTable(
    name="seats-table1",
    title="SEATS, Table 1: Qwen2.5-Omni-7B (arXiv 2605.20035)",
    model="7b",
    quant="none",
    benchmarks=("worldsense", "dailyomni", "videomme"),
    rows=(
        PaperRow("full", "none", _seats(46.7, 64.0, 65.3), tflops=111.0),
        PaperRow("FastV, R35", "fastv@0.35", _seats(43.7, 59.6, 65.2)),
        PaperRow("random, R35", "random-input@0.35", _seats(44.6, 59.7, 65.0)),
        PaperRow("DyCoke, R35", "dycoke@seats-35", _seats(44.4, 59.9, 66.0)),
        PaperRow("DivPrune, R35", "divprune@0.35", _seats(44.8, 60.7, 66.1)),
        PaperRow("OmniZip, R35", "omnizip@paper-35", _seats(45.2, 60.4, 66.3)),
        PaperRow("SEATS, R35", "seats@paper-35", _seats(46.2, 62.1, 66.8), tflops=36.7),
        PaperRow("FastV, R25", "fastv@0.25", _seats(42.4, 56.5, 62.8)),
        PaperRow("random, R25", "random-input@0.25", _seats(43.0, 57.3, 64.2)),
        PaperRow("DivPrune, R25", "divprune@0.25", _seats(43.2, 59.7, 65.3)),
        PaperRow("OmniZip, R25", "omnizip:audio_keep=0.25:video_keep=0.25:frames=halves:spatial=v1", _seats(42.7, 55.5, 66.0)),
        PaperRow("SEATS, R25", "seats@paper-25", _seats(45.3, 60.9, 66.5), tflops=26.5),
        PaperRow("random, R15", "random-input@0.15", _seats(40.4, 55.7, 63.4)),
        PaperRow("SEATS, R15", "seats@paper-15", _seats(44.1, 58.7, 66.0)),
        PaperRow("SEATS, R10", "seats@paper-10", _seats(43.5, 57.8, 64.6)),
    ),
    notes=(
        "Retention (R) is a mean over layers; methods that act before the decoder keep that share of its input.",
        "SEATS gives Daily-Omni the system prompt of WorldSense and Video-MME an empty one; here each benchmark keeps its own.",
        "VisionZip, FastVID and the rows named -om are not offered here.",
        _TIMING_NOTE,
        _ATTENTION_NOTE,
        _SAMPLING_NOTE,
    ),
    options={"dailyomni": "--max-frames 128 --max-new-tokens 32"},
)

TABLES = {table.name: table for table in (OMNIDROP_TABLE_2, SEATS_TABLE_1)}


def find(name: str) -> PaperTable:
    """A published table by name. Raises `UsageError`."""
    if name not in TABLES:
        raise UsageError(f"unknown table '{name}'", did_you_mean(name, TABLES, f"known: {', '.join(TABLES)}"))
    return TABLES[name]
