"""A bench → the tables people read.

Knows: which figures belong side by side. Does not know how any was measured. Renders from the JSON-ready record alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from omnidrop_cli.report.numbers import megabytes, seconds, share

if TYPE_CHECKING:
    from omnidrop_cli.bench.run import BenchResult


def render(result: BenchResult) -> RenderableType:
    """The arms, towers and decoding if measured, and what the device can do at best ("floor": the prefill over its products' own time)."""
    facts = Text(
        f"{result.prompt_of}: {result.prompt.total} tokens ({result.prompt.video} video, {result.prompt.audio} audio)\n"
        f"{result.model.name}, {result.model.quant}, {result.model.dtype}, {result.model.num_layers} layers, {result.device}\n"
        f"best here: {result.floor.matmul_flops / 1e12:.3g} TFLOP/s of products, {result.floor.copy_bytes / 1e9:.3g} GB/s of copies; "
        f"medians of {result.repeats}"
    )
    parts: list[RenderableType] = [facts, _arms(result)]
    if result.towers:
        parts.append(_towers(result))
    if result.decoding:
        parts.append(_decoding(result))
    return Group(*parts)


def _arms(result: BenchResult) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in ("method", "kept", "FLOPs", "prefill", "faster", "floor", "choosing", "token", "KV", "peak"):
        table.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
    for arm in result.arms:
        table.add_row(
            arm.method,
            share(arm.retention_after),
            share(arm.flops_ratio),
            seconds(arm.prefill_s),
            f"{arm.speedup:.2f}x",
            f"{arm.prefill_s / arm.floor_s:.2f}x",
            share(arm.choosing_s / arm.prefill_s),
            seconds(arm.step_s),
            megabytes(arm.kv_mb),
            megabytes(arm.peak_mb),
        )
    return table


def _towers(result: BenchResult) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in ("tower", "pass", "stock", "faster", "products alone", "over them"):
        table.add_column(name, justify="left" if name == "tower" else "right", no_wrap=True)
    for tower in result.towers:
        over = f"{tower.over_products:.2f}x"
        speedup = f"{tower.speedup:.2f}x"
        table.add_row(tower.tower, seconds(tower.seconds), seconds(tower.stock_s), speedup, seconds(tower.products_s), over)
    return table


def _decoding(result: BenchResult) -> Table:
    tokens = result.decoding[0].tokens
    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in ("decoding", "kept", "road", "token", "faster", f"{tokens} tokens", "faster", ""):
        table.add_column(name, justify="left" if name in ("decoding", "road", "") else "right", no_wrap=bool(name))
    for road in result.decoding:
        table.add_row(
            road.method,
            "" if road.keep is None else share(road.keep),
            road.road,
            *_figures(road.token_s, road.token_speedup),
            *_figures(road.answer_s, road.answer_speedup),
            Text(road.note or ""),
        )
    return table


def _figures(measured_s: float | None, speedup: float | None) -> tuple[str, str]:
    return "" if measured_s is None else seconds(measured_s), "" if speedup is None else f"{speedup:.2f}x"
