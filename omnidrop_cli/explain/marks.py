"""What a method's own rules did, read off its trace: OmniDrop's key chunks, SEATS' window budgets."""

from __future__ import annotations

from typing import Any

from omnidrop_cli.outputs import Modality, Report


def marks_of(report: Report) -> dict[str, Any]:
    """Marks as plain values.

    `key_chunks` are [layer, chunk] pairs: the two-second chunk of the best-attended token, from which OmniDrop's temporal diversity
    measures distance (arXiv 2605.14458, Sec. 3.3). `windows` are [layer, budgets] pairs of SEATS' second stage (arXiv 2605.20035,
    Sec. 3.3): the [audio, video] tokens of every chunk that survive the drop after that layer.
    """
    parts = report.method.split("+")
    return {
        "key_chunks": _key_chunks(report) if "omnidrop" in parts else [],
        "windows": _windows(report) if {"seats", "omniblend"} & set(parts) else [],
    }


def _key_chunks(report: Report) -> list[list[int]]:
    attention, tokens = report.trace.attention, report.token_map
    first = report.method_options.get("tds_layer")
    if attention is None or tokens is None or not isinstance(first, int):
        return []
    pairs = zip(attention.layers, attention.peak, strict=True)
    return [[layer, int(tokens.chunk[peak])] for layer, peak in pairs if layer >= first]


def _windows(report: Report) -> list[list[Any]]:
    import numpy as np

    tokens, trace = report.token_map, report.trace
    if tokens is None or not trace.kept:
        return []
    chunks = int(tokens.chunk.max()) + 1
    found = []
    for layer, (before, after) in enumerate(zip(trace.entering, trace.leaving, strict=True)):
        if not 0 < after.media < before.media:  # the last stage leaves nothing, and has no budgets
            continue
        kept = trace.kept[layer + 1]
        counts = [
            np.bincount(tokens.chunk[kept[tokens.modality[kept] == modality]], minlength=chunks)
            for modality in (Modality.AUDIO, Modality.VIDEO)
        ]
        found.append([layer, np.stack(counts, axis=1).tolist()])
    return found
