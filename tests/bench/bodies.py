"""The JSON of a bench, checked for the shape that all of them share."""

from __future__ import annotations

import io
import json
from typing import Any

from rich.console import Console

from omnidrop_cli.bench.measurement import BenchReport
from omnidrop_cli.bench.table import render

RUN = {
    "name", "samples", "cold_s", "seconds", "low_s", "high_s", "speed", "speed_low", "speed_high", "cpu_s", "peak_mb", "before_mb",
    "facts", "problem",
}  # fmt: skip


def body_of(report: BenchReport) -> dict[str, Any]:
    """The report as JSON; it can be drawn as well."""
    assert drawn(report)
    body: dict[str, Any] = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert body.keys() == {"schema", "kind", "date", "device", "versions", "repeats", "groups", "facts", "computed"}
    assert "omnidrop-cli" in body["versions"]
    for group in body["groups"]:
        for run in group["runs"]:
            assert run.keys() == RUN
            assert run["problem"] or (run["low_s"] <= run["seconds"] <= run["high_s"] and run["cold_s"] > 0)
        first = group["runs"][0]
        assert first["problem"] or first["speed"] == first["speed_low"] == first["speed_high"] == 1
    return body


def drawn(report: BenchReport, width: int = 160) -> str:
    """The report's tables as plain text."""
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(render(report))
    return console.export_text()
