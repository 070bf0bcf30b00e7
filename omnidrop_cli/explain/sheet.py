"""A contact sheet: sampled frames with patches the darker the earlier they were dropped, and how deep the audio between them survives."""

from __future__ import annotations

import importlib.util
import io
from typing import TYPE_CHECKING, Any

from omnidrop_cli.errors import UsageError
from omnidrop_cli.explain.depth import DepthMap, depth_map
from omnidrop_cli.explain.overlay import DROPPED, KEPT, darkened
from omnidrop_cli.explain.record import Film
from omnidrop_cli.outputs import Report
from omnidrop_cli.report.numbers import clock, percent
from omnidrop_cli.report.tables import summary
from omnidrop_cli.report.text import one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_FRAMES = 48
"""Frames of a sheet at most, evenly spread over the clip."""

WIDTH, GAP, MARGIN = 1280, 8, 16
CAPTION, AUDIO_BAR, LINE = 18, 10, 22
PAPER, INK, SOFT = (255, 255, 255), (28, 30, 33), (91, 97, 104)


def require_pillow() -> None:
    """Raises `UsageError` where Pillow is missing."""
    if importlib.util.find_spec("PIL") is None:
        raise UsageError("drawing a contact sheet needs Pillow", 'pip install "pillow>=10.1"')


def sheet(report: Report, film: Film | None) -> bytes:
    """The sheet as PNG.

    Args:
        report: with its kept tokens.
        film: thumbnails of its clip; None for audio alone or where the file is gone, the sheet then has plain cells.

    Raises:
        UsageError: the report has no kept tokens, or Pillow is missing.
    """
    require_pillow()
    from PIL import Image, ImageDraw

    depth = depth_map(report)
    at_s = _moments(report, film, depth)
    columns = min(8, max(3, round(len(at_s) ** 0.5 * 1.6)), len(at_s))
    cell = (WIDTH - 2 * MARGIN - (columns - 1) * GAP) // columns
    shape = film.size if film is not None else (16, 9 if len(depth.patches) else 2)
    tall = round(cell * shape[1] / shape[0])
    head = MARGIN + LINE * len(_lines(report))
    rows = -(-len(at_s) // columns)
    step = tall + CAPTION + AUDIO_BAR + GAP
    image = Image.new("RGB", (WIDTH, head + GAP + rows * step + MARGIN), PAPER)
    draw = ImageDraw.Draw(image)
    for number, (line, ink) in enumerate(_lines(report)):
        draw.text((MARGIN, MARGIN + number * LINE), line, fill=ink, font=_font(15))
    for number, second in enumerate(at_s):
        left, top = MARGIN + number % columns * (cell + GAP), head + GAP + number // columns * step
        image.paste(Image.fromarray(_frame(film, depth, second, (cell, tall))), (left, top))
        following = at_s[number + 1] if number + 1 < len(at_s) else report.clip.duration_s
        _captioned(draw, report, depth, (second, following), (left, top + tall, cell))
    drawn = io.BytesIO()
    image.save(drawn, "PNG", optimize=True)
    return drawn.getvalue()


def _moments(report: Report, film: Film | None, depth: DepthMap) -> list[float]:
    """Seconds of the cells: those of the film's frames, else of the grids, else evenly spread."""
    count = MAX_FRAMES
    if film is None and not len(depth.grid_s):
        return [report.clip.duration_s * number / count for number in range(count)]
    found = [float(second) for second in (film.at_s if film is not None else depth.grid_s)]
    wanted = min(count, len(found))
    return [found[number * len(found) // wanted] for number in range(wanted)]


def _frame(film: Film | None, depth: DepthMap, second: float, size: tuple[int, int]) -> NDArray[np.uint8]:
    """One cell's pixels (H, W, 3), darkened by depth."""
    import numpy as np
    from PIL import Image

    if film is None:
        pixels = np.full((size[1], size[0], 3), 230, np.uint8)
    else:
        index = min(range(len(film.at_s)), key=lambda number: abs(film.at_s[number] - second))
        pixels = np.asarray(Image.open(io.BytesIO(film.jpegs[index])).convert("RGB").resize(size))
    return darkened(pixels, depth.at(second)) if len(depth.patches) else pixels


def _captioned(draw: Any, report: Report, depth: DepthMap, span: tuple[float, float], place: tuple[int, int, int]) -> None:
    """Below a cell: the second, the mean depth of its patches, and a bar of how deep the audio up to the next cell survives."""
    left, top, width = place
    words = clock(report.clip.start_s + span[0], fine=report.clip.duration_s < 10)
    if len(depth.patches):
        words += f"   {percent(float(depth.at(span[0]).mean()))}"
    draw.text((left, top + 2), words, fill=SOFT, font=_font(12))
    if not len(depth.audio):
        return
    for x in range(width):
        start = span[0] + (span[1] - span[0]) * x / width
        end = max(start + 0.04, span[0] + (span[1] - span[0]) * (x + 1) / width)
        share = depth.audio_between(start, end)
        ink = tuple(round(a + (b - a) * share) for a, b in zip(DROPPED, KEPT, strict=True))
        draw.line((left + x, top + CAPTION, left + x, top + CAPTION + AUDIO_BAR - 3), fill=ink)


def _lines(report: Report) -> list[tuple[str, tuple[int, int, int]]]:
    """The words on top. Text in scripts that the built-in font lacks is left out rather than drawn as boxes."""
    lines = [(f"Q  {one_line(report.job.question)}", INK), (f"A  {one_line(report.answer.text)}", INK)]
    lines.append((f"{one_line(report.method)}: {', '.join(summary(report))}; brighter is kept deeper, below the frames: audio", SOFT))
    return [(line[:150], ink) for line, ink in lines if all(ord(character) < 0x180 for character in line)]


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)
