"""docs/assets/layers.svg: the share of audio, video and text that enters each layer, from real runs of four methods."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from omnidrop_cli.explain.curves import HEIGHT, WIDTH, chart

if TYPE_CHECKING:
    from omnidrop_cli.outputs import Report

METHODS = ("omnizip", "fastv", "seats", "omnidrop")
COLUMNS, TITLE, GAP = 2, 24, 12
KEEP = 0.3


def layers(question: str) -> str:
    """Run the methods on the bundled clip, 30 % kept, and draw one panel for each.

    Returns:
        An SVG document without times. Lines and colours are those of the explain page's light theme.
    """
    from omnidrop_cli.config import ModelConfig, PruningConfig, Request
    from omnidrop_cli.explain.make import explain

    methods = tuple(PruningConfig(name, keep=KEEP) for name in METHODS)
    made, _ = explain(Request("demo", question, model=ModelConfig("nano")), methods, full=False)
    return document(made.reports)


def document(reports: tuple[Report, ...]) -> str:
    """The panels of all reports, two in a row."""
    rows = -(-len(reports) // COLUMNS)
    width, height = COLUMNS * WIDTH, rows * (HEIGHT + TITLE + GAP)
    panels = "\n".join(_panel(report, number) for number, report in enumerate(reports))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">\n'
        f"<style>{_style()}</style>\n"
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n{panels}\n</svg>\n'
    )


def _panel(report: Report, number: int) -> str:
    left, top = number % COLUMNS * WIDTH, number // COLUMNS * (HEIGHT + TITLE + GAP)
    described, content = chart(report)
    name = escape(f"{report.method}, {100 * report.trace.retention_after:.0f} % kept")
    return (
        f'<g class="curve" transform="translate({left} {top + TITLE})"><title>{name}. {escape(described)}</title>'
        f'<text class="name" x="44" y="-4">{name}</text>{content}</g>'
    )


def _style() -> str:
    """The rules of the page's style that concern curves, in its light theme."""
    lines = files("omnidrop_cli.explain").joinpath("assets", "page.css").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line.startswith((":root{", ".curve "))]
    return "".join([*rules, ".curve .name{fill:var(--ink);font-weight:600;font-size:13px}"])
