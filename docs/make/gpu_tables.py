"""Tables of docs/results/gpu.md, from the JSON that `python -m tests.gpu.first_run` wrote.

A block starts with `<!-- gpu FILE: KIND -->` and ends with `<!-- end -->`. FILE is relative to the page, KIND one of `KINDS`.
"""

from __future__ import annotations

import json
import re
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
    lines = [
        "| model, clip | method | cold s | warm s | of none | rows per layer | peak GB |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for stage, facts in _stages(results, "prefill"):
        full = facts.get("none") or results[stage.removesuffix(" omniblend")]["none"]
        for method, row in facts.items():
            if isinstance(row, dict):
                warm = median_high(row["warm_s"])
                share = "" if method == "none" else f"{100 * warm / median_high(full['warm_s']):.0f} %"
                lines.append(
                    f"| {_subject(stage)} | {method} | {row['cold_s']:.2f} | {warm:.3f} | {share} | {row['mean_rows']:,} "
                    f"| {row['allocated_mb'] / 1000:.1f} |"
                )
    return "\n".join(lines) + "\n"


def decoding(results: Results) -> str:
    """Milliseconds per token: eager and captured."""
    lines = [
        "| model, clip | method | eager ms | captured ms | capture ms | 96 or 48 tokens, eager / captured s |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
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
    lines = [
        "| model, clip | card | question | prompt tokens | encode s | prefill s | 24 tokens s | peak GB |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for stage, facts in _stages(results, "ask"):
        card = f"as if it had {facts['cap_gb']:g} GB" if facts["cap_gb"] else "whole"
        for number, row in enumerate((row for row in facts.values() if isinstance(row, dict)), 1):
            lines.append(
                f"| {_subject(stage)} | {card} | {number} | {row['prompt_tokens']:,} | {row['encode_s']:.2f} | {row['prefill_s']:.2f} "
                f"| {row['generate_s']:.2f} | {row['peak_mb'] / 1000:.1f} |"
            )
    return "\n".join(lines) + "\n"


KINDS: Mapping[str, Callable[[Results], str]] = {"machine": machine, "prefill": prefill, "decoding": decoding, "answers": answers}


def _stages(results: Results, kind: str) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, facts) for name, facts in results.items() if name.startswith(f"{kind} ") and isinstance(facts, dict)]


def _subject(stage: str) -> str:
    size, seconds = stage.replace(",", "").split()[1:3]
    return f"{size.upper()}, {seconds} s"
