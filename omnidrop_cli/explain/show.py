"""A report as something that a notebook displays and that can be saved: the page, the contact sheet or the overlay video."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

from omnidrop_cli.errors import OmnidropError, UsageError
from omnidrop_cli.explain.html_parts import card, layers_table
from omnidrop_cli.explain.make import of_saved, with_preview
from omnidrop_cli.explain.record import check_one_clip
from omnidrop_cli.fileio import write_bytes
from omnidrop_cli.outputs import Comparison, Report

Kind = Literal["page", "sheet", "overlay"]

PAGE_HEIGHT = 900


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A rendered report. A notebook displays it; `save` writes the file."""

    kind: Kind
    content: bytes

    def save(self, path: str | Path) -> Path:
        """Write the page (.html), the sheet (.png) or the video (.mp4) to `path`, atomically, and return it."""
        write_bytes(Path(path), self.content)
        return Path(path)

    def _repr_html_(self) -> str:
        if self.kind == "page":
            page = escape(self.content.decode(), quote=True)
            return (
                f'<iframe srcdoc="{page}" sandbox="allow-scripts allow-downloads" width="100%" height="{PAGE_HEIGHT}" '
                'style="border:0" title="omnidrop explain"></iframe>'
            )
        data = base64.b64encode(self.content).decode("ascii")
        if self.kind == "sheet":
            return f'<img src="data:image/png;base64,{data}" alt="Contact sheet: patches are the darker the earlier they were dropped">'
        return f'<video controls src="data:video/mp4;base64,{data}"></video>'

    def __repr__(self) -> str:
        return f"<{self.kind} of {len(self.content)} bytes; save(path) writes it>"


def show(result: Report | Comparison, kind: Kind = "page") -> Shown:
    """Render a report, fresh or saved with its kept tokens; no model runs, and the clip is read again from its file.

    Args:
        result: a report, or a comparison, whose page has the unpruned answer too.
        kind: the interactive page, the contact sheet (needs Pillow), or the overlay video.

    Raises:
        UsageError: the report is about several clips, or was saved without its kept tokens, or Pillow is missing.
        OmnidropError: the overlay needs the clip, and its file is gone.
    """
    report, full = (result.pruned, result.full) if isinstance(result, Comparison) else (result, None)
    check_one_clip(len(report.clips))
    explanation, clip = of_saved([report], full)
    if kind == "sheet":
        from omnidrop_cli.explain.sheet import sheet

        return Shown(kind, sheet(report, explanation.film))
    if kind == "overlay":
        from omnidrop_cli.explain.overlay import overlay

        if clip is None:
            raise OmnidropError(f"{report.clip.source.path} cannot be read", "the overlay needs the clip")
        return Shown(kind, overlay(report, clip))
    if kind != "page":
        raise UsageError(f"there is no view {kind!r}", "page, sheet or overlay")
    from omnidrop_cli.explain.page import page

    return Shown(kind, page(explanation if clip is None else with_preview(explanation, clip)).encode())


def summary_html(report: Report) -> str:
    """The short form of a report for a notebook's output: answer, figures and tokens by layer."""
    return card(report.method, report) + layers_table(report)
