"""Tokens by layer as an SVG chart: the share of each modality that enters every layer. Plain SVG, styled by the page."""

from __future__ import annotations

from html import escape

from omnidrop_cli.outputs import Report
from omnidrop_cli.report.text import one_line

WIDTH, HEIGHT = 420, 210
LEFT, RIGHT, TOP, BOTTOM = 44, 56, 12, 30

LABEL_GAP = 14
"""Least distance of two labels, in pixels."""


def curve(report: Report) -> str:
    """A figure with one line per modality of the prompt, named at its end, and a cursor for the chosen layer."""
    title = escape(one_line(report.method))
    described, content = chart(report)
    return (
        f'<figure><figcaption dir="auto">{title}</figcaption>'
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{described}">{content}'
        f'<line class="cursor" data-left="{LEFT}" data-right="{WIDTH - RIGHT}" x1="{LEFT}" x2="{LEFT}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        "</svg></figure>"
    )


def chart(report: Report) -> tuple[str, str]:
    """The chart in words, and its axes and lines as SVG elements in a space of `WIDTH` by `HEIGHT`."""
    lines = {
        name: [getattr(counts, name) / total for counts in report.trace.entering]
        for name, total in (("video", report.prompt.video), ("audio", report.prompt.audio), ("text", report.prompt.text))
        if total
    }
    layers = report.trace.num_layers
    parts = [f'<polyline class="{name}" points="{_points(shares)}"/>' for name, shares in lines.items()]
    parts += [
        f'<text class="{name}" x="{WIDTH - RIGHT + 6}" y="{y:.1f}" dominant-baseline="middle">{name}</text>'
        for name, y in _label_places({name: _y(shares[-1]) for name, shares in lines.items()}).items()
    ]
    ends = ", ".join(f"{name} {shares[0]:.0%} to {shares[-1]:.0%}" for name, shares in lines.items())
    return f"Share of tokens entering layers 0 to {layers - 1}: {ends}", f"{_axes(layers)}{''.join(parts)}"


def _x(layer: int, layers: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (layer / (layers - 1) if layers > 1 else 0)


def _y(share: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)


def _points(shares: list[float]) -> str:
    return " ".join(f"{_x(layer, len(shares)):.1f},{_y(share):.1f}" for layer, share in enumerate(shares))


def _axes(layers: int) -> str:
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(share)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y:.1f}" text-anchor="end" dominant-baseline="middle">{share:.0%}</text>')
    step = max(1, -(-(layers - 1) // 7))
    for layer in range(0, layers, step):
        parts.append(f'<text x="{_x(layer, layers):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{layer}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT + 6}" y="{HEIGHT - BOTTOM + 16}">layer</text>')
    return "".join(parts)


def _label_places(wanted: dict[str, float]) -> dict[str, float]:
    """Heights for the labels at the lines' ends, moved apart where they would overlap, within the chart."""
    places: dict[str, float] = {}
    lowest = HEIGHT - BOTTOM - LABEL_GAP * (len(wanted) - 1)
    for number, (name, y) in enumerate(sorted(wanted.items(), key=lambda item: item[1])):
        above = max(places.values(), default=-LABEL_GAP)
        places[name] = min(max(y, above + LABEL_GAP), lowest + LABEL_GAP * number)
    return places
