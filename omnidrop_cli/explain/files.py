"""The files of `omnidrop explain`: which are asked for, whether they can be written, and writing them from one explanation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidrop_cli.errors import OmnidropError, UsageError
from omnidrop_cli.explain.record import check_one_clip
from omnidrop_cli.fileio import write_bytes, write_text

if TYPE_CHECKING:
    from omnidrop_cli.explain.record import Explanation
    from omnidrop_cli.outputs import Clip, Report


@dataclass(frozen=True, slots=True)
class Targets:
    """Paths to write, None for what was not asked for. `embed_media` puts the clip into the page instead of linking it."""

    page: Path | None = None
    embed_media: bool = False
    overlay: Path | None = None
    sheet: Path | None = None
    svg: Path | None = None

    def check(self, clips: int) -> None:
        """Check, before anything runs, what does not depend on the answer. `clips` is how many the question is about.

        Raises:
            UsageError: a page, an overlay or a sheet of several clips, a sheet without Pillow, or one file for two of them.
        """
        if self.page or self.overlay or self.sheet:
            check_one_clip(clips)
        paths = [path.absolute() for _, path in self.named()]
        if twice := next((path for path in paths if paths.count(path) > 1), None):
            raise UsageError(f"{twice.name} was given for two results", "give each a name of its own")
        if self.sheet is not None:
            from omnidrop_cli.explain.sheet import require_pillow

            require_pillow()

    def named(self) -> Iterator[tuple[str, Path]]:
        """Flags and paths of what was asked for."""
        pairs = (("--output", self.page), ("--overlay", self.overlay), ("--png", self.sheet), ("--svg", self.svg))
        yield from ((flag, path) for flag, path in pairs if path is not None)


def write_files(explanation: Explanation, clip: Clip | None, targets: Targets) -> list[Path]:
    """Write what was asked for, each file atomically; the paths written.

    Overlay, sheet and SVG show the first method. Raises `OmnidropError` where the overlay needs a clip that is gone, or the disk refuses.
    """
    report = explanation.first
    if targets.page is not None:
        from omnidrop_cli.explain.make import with_link, with_preview
        from omnidrop_cli.explain.page import page

        shown = with_preview(explanation, clip) if targets.embed_media and clip is not None else with_link(explanation, targets.page)
        write_text(targets.page, page(shown))
    if targets.overlay is not None:
        from omnidrop_cli.explain.overlay import overlay

        if clip is None:
            raise OmnidropError(f"{report.clip.source.path} cannot be read", "the overlay needs the clip")
        write_bytes(targets.overlay, overlay(report, clip))
    if targets.sheet is not None:
        from omnidrop_cli.explain.sheet import sheet

        write_bytes(targets.sheet, sheet(report, explanation.film))
    if targets.svg is not None:
        from omnidrop_cli.report.kept_view import KeptView
        from omnidrop_cli.report.svg import to_svg
        from omnidrop_cli.report.text import one_line

        title = f"omnidrop explain: {one_line(report.job.question)}"
        write_text(targets.svg, to_svg(KeptView(report), title=title))
    return [path for _, path in targets.named()]


def saved_reports(text: str) -> tuple[list[Report], Report | None]:
    """Reports of a JSON document: a report, a comparison, or what the page saves; and the unpruned one, where there is one.

    Raises `ValueError` for anything else, and for reports without their kept tokens.
    """
    import json

    from omnidrop_cli.report.json import comparison_from_dict, from_dict

    value: Any = json.loads(text)
    full: Report | None
    if not isinstance(value, dict):
        raise ValueError("this is not a saved report")
    if value.get("kind") == "comparison":
        comparison = comparison_from_dict(value)
        found, full = [comparison.pruned], comparison.full
    elif value.get("kind") == "explanation":
        found = [from_dict(one) for one in value["reports"]]
        full = from_dict(value["full"]) if value.get("full") else None
    else:
        found, full = [from_dict(value)], None
    if any(report.token_map is None for report in found):
        raise ValueError("the report was saved without its kept tokens (ask --json --kept keeps them)")
    return found, full
