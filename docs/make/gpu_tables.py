"""Tables of docs/results/gpu.md, from the JSON that `python -m tests.gpu.first_run` wrote.

A block starts with `<!-- gpu FILE: KIND -->` and ends with `<!-- end -->`. FILE is relative to the page, KIND one of `KINDS`.
`python -m docs.make.gpu_tables FILE` prints every kind of a file.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median_high
from typing import Any

PAGE = Path(__file__).parents[1] / "results" / "gpu.md"
BLOCK = re.compile(r"(<!-- gpu (\S+\.json): (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

Results = Mapping[str, Any]


def page() -> str:
    """The page with every block written from its file."""

    def block(match: re.Match[str]) -> str:
        results = json.loads((PAGE.parent / match[2]).read_text(encoding="utf-8"))
        return f"{match[1]}\n{KINDS[match[3]](results)}\n{match[4]}"

    return BLOCK.sub(block, PAGE.read_text(encoding="utf-8"))


def machine(results: Results) -> str:
    """One line: the card, the packages, measured rates."""
    facts, rates = results["environment"], results["ceilings"]
    packages = ", ".join(f"{name} {facts[name]}" for name in ("torch", "transformers", "bitsandbytes"))
    return (
        f"{facts['gpu']}, CUDA {facts['cuda']}, Python {facts['python']}, {packages}.\n"
        f"Measured there: {rates['matmul_tflop_per_s']:.0f} TFLOP/s of bfloat16 products, "
        f"{rates['copy_gb_per_s'] / 1000:.1f} TB/s of copies, "
        f"{rates['eager_launch_us']:.0f} µs per kernel launch.\n"
    )


def prefill(results: Results) -> str:
    """Prefill seconds and memory: methods down."""
    lines = _head("model, clip | method", "cold s | warm s | of none | rows per layer | peak GB")
    for stage, facts in _stages(results, "prefill"):
        full = _full(results, stage)
        for method, row in facts.items():
            if isinstance(row, dict):
                warm = median_high(row["warm_s"])
                share = "" if method == "none" or full is None else f"{100 * warm / full:.0f} %"
                lines.append(
                    f"| {_subject(stage)} | {method} | {row['cold_s']:.2f} | {warm:.3f} | {share} | {row['mean_rows']:,} "
                    f"| {row['allocated_mb'] / 1000:.1f} |"
                )
    return "\n".join(lines) + "\n"


def selection(results: Results) -> str:
    """Seconds of choosing tokens and dropping the others, before the decoder and inside it: methods down."""
    lines = _head("model, clip | method", "before s | inside s | of the prefill without pruning")
    for stage, facts in _stages(results, "prefill"):
        full = _full(results, stage)
        for method, row in facts.items():
            if isinstance(row, dict) and "select_input_s" in row:
                before, inside = row["select_input_s"], row["select_layers_s"]
                share = "" if full is None else f"{100 * (before + inside) / full:.1f} %"
                lines.append(f"| {_subject(stage)} | {method} | {before:.4f} | {inside:.4f} | {share} |")
    return "\n".join(lines) + "\n"


def floors(results: Results) -> str:
    """Tokens per second of a captured graph against what reading weights, keys and values allows at the measured rate of copies."""
    lines = _head("model, clip | method", "read MB | floor tokens/s | captured tokens/s | of the floor")
    for stage, facts in _stages(results, "decoding"):
        for label, row in facts.items():
            if label.endswith(", graph, warm") and "read_mb" in row:
                most, reached = results["ceilings"]["copy_gb_per_s"] * 1e3 / row["read_mb"], 1e3 / row["tail_ms"]
                lines.append(
                    f"| {_subject(stage)} | {label.partition(',')[0]} | {row['read_mb']:,.0f} | {most:.0f} | {reached:.0f} "
                    f"| {100 * reached / most:.0f} % |"
                )
    return "\n".join(lines) + "\n"


def lookup(results: Results) -> str:
    """Steps by the rows they read, and answers with and without prompt lookup."""
    lines = []
    for stage, facts in _stages(results, "lookup"):
        steps = {name: row["ms"] for name, row in facts.items() if name.startswith("step of ")}
        lines += [
            f"| {_subject(stage)}: rows of a step | {' | '.join(name.removeprefix('step of ') for name in steps)} |",
            f"| --- |{' ---: |' * len(steps)}",
            f"| ms | {' | '.join(f'{ms:.2f}' for ms in steps.values())} |",
            "",
            *_head("answer", "tokens/s | equal to the eager one | steps | drafted | taken"),
        ]
        for name, row in facts.items():
            if name not in steps:
                drafts = " | ".join(str(row.get(key, "")) for key in ("steps", "drafted", "accepted"))
                lines.append(f"| {name} | {row['tokens_per_s']:.0f} | {row['same']} of {row['of']} | {drafts} |")
    return "\n".join(lines) + "\n"


def heads(results: Results) -> str:
    """The output matrix in each type."""
    lines = _head(
        "output matrix", "one layer and both tables MB | eager ms | captured ms | 8 rows ms | likeliest token of bfloat16's | error"
    )
    for _, facts in _stages(results, "heads"):
        for quant, row in facts.items():
            captured = "" if row["captured_ms"] is None else f"{row['captured_ms']:.3f}"
            lines.append(
                f"| {'bfloat16' if quant == 'none' else quant} | {row['weights_mb']:,} | {row['eager_ms']:.3f} | {captured} "
                f"| {row['eight_rows_ms']:.3f} | {100 * row['top1']:.1f} % | {100 * row['error']:.1f} % |"
            )
    return "\n".join(lines) + "\n"


def flash(results: Results) -> str:
    """Four layers with flash_attn against SDPA; a sentence where it was not installed."""
    lines = _head("four layers of the 7B | method", "prefill s | token ms | error of the logits")
    for _, facts in _stages(results, "flash_attn"):
        if facts["installed"] is None:
            return "flash_attn was not installed.\n"
        for label, row in facts.items():
            if isinstance(row, dict):
                attention, method = label.split(", ")
                lines.append(f"| {attention} | {method} | {row['warm_s']:.3f} | {row['token_ms']:.2f} | {100 * row['error']:.2f} % |")
    return "\n".join(lines) + "\n"


def auto(results: Results) -> str:
    """What `auto` takes: clips across, cards down; then the estimate against the peaks of whole answers."""
    lines: list[str] = []
    for _, facts in _stages(results, "auto"):
        cards = {card: row for card, row in facts.items() if card.endswith(" GB")}
        clips = list(next(iter(cards.values())))
        lines += [f"| free | {' | '.join(clips)} |", f"| --- |{' --- |' * len(clips)}"]
        lines += [f"| {card} | {' | '.join(row.values())} |" for card, row in cards.items()]
    asked = [(stage, facts) for stage, facts in _stages(results, "ask") if "estimate" in facts]
    if asked:
        lines += ["", "| answer | estimated GB | encoders wait, GB | said to fit | measured GB |", "| --- | ---: | ---: | --- | ---: |"]
    for stage, facts in asked:
        known, peak = facts["estimate"], max(row["peak_mb"] for row in facts.values() if isinstance(row, dict) and "peak_mb" in row)
        lines.append(
            f"| {stage.removeprefix('ask ')} | {known['estimated_mb'] / 1000:.1f} | {known['waiting_mb'] / 1000:.1f} | {known['fits']} "
            f"| {peak / 1000:.1f} |"
        )
    return "\n".join(lines) + "\n"


def decoding(results: Results) -> str:
    """Milliseconds per token: eager and captured."""
    lines = _head("model, clip | method", "eager ms | captured ms | capture ms | 96 or 48 tokens, eager / captured s")
    for stage, facts in _stages(results, "decoding"):
        for method in dict.fromkeys(label.partition(",")[0] for label in facts):
            eager, graph = facts[f"{method}, eager, warm"], facts[f"{method}, graph, warm"]
            lines.append(
                f"| {_subject(stage)} | {method} | {median_high(eager['first_ms']):.1f} | {graph['tail_ms']:.1f} "
                f"| {graph['slowest_ms']:.0f} | {eager['answer_s']:.2f} / {graph['answer_s']:.2f} |"
            )
    return "\n".join(lines) + "\n"


def answers(results: Results) -> str:
    """Seconds per stage of whole questions, the second about the same clip."""
    lines = _head("model, clip | card | question", "prompt tokens | encode s | prefill s | 24 tokens s | peak GB")
    for stage, facts in _stages(results, "ask"):
        card = f"as if it had {facts['cap_gb']:g} GB" if facts["cap_gb"] else "whole"
        for number, row in enumerate((row for row in facts.values() if isinstance(row, dict) and "prefill_s" in row), 1):
            lines.append(
                f"| {_subject(stage)} | {card} | {number} | {row['prompt_tokens']:,} | {row['encode_s']:.2f} | {row['prefill_s']:.2f} "
                f"| {row['generate_s']:.2f} | {row['peak_mb'] / 1000:.1f} |"
            )
    return "\n".join(lines) + "\n"


KINDS: Mapping[str, Callable[[Results], str]] = {
    "machine": machine,
    "prefill": prefill,
    "selection": selection,
    "decoding": decoding,
    "floors": floors,
    "lookup": lookup,
    "heads": heads,
    "flash": flash,
    "answers": answers,
    "auto": auto,
}


def _head(left: str, right: str) -> list[str]:
    """The first two lines of a table: names of the columns whose cells stand left, and of those behind them whose cells stand right."""
    return [f"| {left} | {right} |", "| --- " * len(left.split(" | ")) + "| ---: " * len(right.split(" | ")) + "|"]


def _stages(results: Results, kind: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Stages of a kind that gave facts, by name."""
    return [
        (name, facts)
        for name, facts in results.items()
        if (name == kind or name.startswith(f"{kind} ")) and isinstance(facts, dict) and "error" not in facts
    ]


def _full(results: Results, stage: str) -> float | None:
    """Seconds of the prefill without pruning at the model and clip of `stage`; None where it was not measured."""
    for name, facts in _stages(results, "prefill"):
        if _subject(name) == _subject(stage) and isinstance(facts.get("none"), dict):
            return median_high(facts["none"]["warm_s"])
    return None


def _subject(stage: str) -> str:
    size, seconds = stage.replace(",", "").split()[1:3]
    return f"{size.upper()}, {seconds} s"


def main() -> None:
    """Print every table of the file named on the command line."""
    results = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for name, table in KINDS.items():
        print(f"## {name}\n\n{table(results)}")


if __name__ == "__main__":
    main()
