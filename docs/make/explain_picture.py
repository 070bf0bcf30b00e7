"""docs/assets/explain.png: the upper part of an explain page, drawn by headless Chromium from a real run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omnidrop_cli.explain.record import Explanation

WIDTH = 960
LAYER = 6
"""The layer that the slider is at: the middle of nano's 12, where dropped and kept patches are both in sight."""

SLIDE = f"(() => {{ const one = document.getElementById('layer'); one.value = {LAYER}; one.dispatchEvent(new Event('input')); }})()"
HEIGHT = "Math.ceil(document.getElementById('lanes').getBoundingClientRect().bottom + scrollY) + 16"
"""Height of the page down to the lanes under the film strip, in pixels."""


def write(path: Path, question: str) -> None:
    """Explain a question about the bundled clip with nano, open the page in Chromium and write its upper part as PNG of few colours.

    The page has no player here: neither is the clip embedded nor linked.

    Raises `RuntimeError` where the page reports an error, or where there is no Chromium.
    """
    from omnidrop_cli.explain.page import page
    from tests.explain.browser import Browser, chromium

    if chromium() is None:
        raise RuntimeError("the picture of the explain page needs chromium (apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder:
        html, whole = Path(folder, "report.html"), Path(folder, "whole.png")
        html.write_text(page(_explanation(question)), encoding="utf-8")
        with Browser(WIDTH) as browser:
            browser.open(html)
            browser.run(SLIDE)
            browser.settle()
            height = int(browser.run(HEIGHT))
            browser.screenshot(whole)
            if browser.errors:
                raise RuntimeError(f"the page reports errors: {browser.errors}")
        _few_colours(whole, path, height)


def _explanation(question: str) -> Explanation:
    from omnidrop_cli.config import ModelConfig, PruningConfig, Request
    from omnidrop_cli.explain.make import explain

    request = Request("demo", question, model=ModelConfig("nano"))
    explain(request, (PruningConfig(),))  # imports and the first use of each kernel stay out of the times
    return explain(request, (PruningConfig(),))[0]


def _few_colours(whole: Path, path: Path, height: int) -> None:
    """The first `height` rows with a palette of 256 colours, which makes the file less than half as large."""
    from PIL import Image

    with Image.open(whole) as image:
        upper = image.convert("RGB").crop((0, 0, image.width, height))
    upper.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)
