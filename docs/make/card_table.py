"""Tables of docs/user/models.md: which clips fit which graphics card by the memory estimate, and the estimate against an H100's peaks.

A block starts with `<!-- cards: KIND -->` and ends with `<!-- end -->`. KIND is one of `KINDS`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from omnidrop_cli.config import MediaConfig
from omnidrop_cli.model.clip_fit import TEXT_TOKENS, ModelMemory, fit
from omnidrop_cli.model.names import QWEN_BOUNDS
from omnidrop_cli.model.sizes import QWEN_3B, QWEN_7B

PAGE = Path(__file__).parents[1] / "user" / "models.md"
MEASURED = PAGE.parents[1] / "results" / "figures" / "gpu-h100-before.json"  # the last run of the 3B
BLOCK = re.compile(r"(<!-- cards: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

SAMPLED = QWEN_BOUNDS.fill(MediaConfig())
MODELS = {"7b": ModelMemory(QWEN_7B, "nf4", SAMPLED), "3b": ModelMemory(QWEN_3B, "nf4", SAMPLED)}
CARDS_GB = (8, 12, 16, 24, 80)
MINUTES = (1, 10, 60)
KEEPS = (1.0, 0.3, 0.1)
CELLS = {"yes": "yes", "encoders wait": "wait", "no": "–"}

METHODS = {"none": 1.0, "omnidrop@0.3": 0.3, "omnidrop@0.2": 0.2, "omnidrop@0.1": 0.1}


def page() -> str:
    """The page with every block computed."""
    return BLOCK.sub(lambda match: f"{match[1]}\n{KINDS[match[2]]()}\n{match[3]}", PAGE.read_text(encoding="utf-8"))


def cards() -> str:
    """Clips and retention ratios down, cards across."""
    lines = [
        "| model, clip | kept | needs GB | " + " | ".join(f"{size} GB" for size in CARDS_GB) + " |",
        "| --- | ---: | ---: |" + " --- |" * len(CARDS_GB),
    ]
    for name, model in MODELS.items():
        for minutes in MINUTES:
            for keep in KEEPS:
                needed = model.of_clip(60 * minutes, keep)
                cells = " | ".join(CELLS[fit(needed, size * 1e9)] for size in CARDS_GB)
                kept = "all" if keep == 1 else f"{100 * keep:g} %"
                lines.append(f"| {name.upper()}, {minutes} min | {kept} | {needed.peak_mb / 1000:.1f} | {cells} |")
    return "\n".join(lines) + "\n"


def check() -> str:
    """Estimated and measured peaks of prefills of the same prompts."""
    lines = ["| model, clip | method | estimate GB | H100 GB | |", "| --- | --- | ---: | ---: | ---: |"]
    for stage, facts in json.loads(MEASURED.read_text(encoding="utf-8")).items():
        kind, _, subject = stage.partition(" ")
        name, _, length = subject.partition(" ")
        if kind != "prefill" or name not in MODELS or "," in length:
            continue
        for method in (method for method in METHODS if method in facts):
            needed = MODELS[name].of_tokens(facts["tokens"] - TEXT_TOKENS, METHODS[method])
            estimate = needed.weights_mb + needed.embeddings_mb + max(needed.selection_mb, needed.kv_mb + needed.prefill_mb)
            peak = facts[method]["allocated_mb"]
            off = f"{100 * (estimate / peak - 1):+.1f} %"
            lines.append(f"| {name.upper()}, {length} | {method} | {estimate / 1000:.1f} | {peak / 1000:.1f} | {off} |")
    return "\n".join(lines) + "\n"


KINDS: Mapping[str, Callable[[], str]] = {"cards": cards, "check": check}
