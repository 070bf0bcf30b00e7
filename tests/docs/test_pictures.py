"""The pictures of the pages are what real runs draw."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.make import explain_picture, layers_picture, pictures
from tests.explain.browser import chromium


@pytest.mark.slow
@pytest.mark.skipif(chromium() is None, reason="there is no chromium (apt-get install chromium)")
def test_the_explain_page_is_drawn_down_to_its_lanes(tmp_path: Path) -> None:
    from PIL import Image

    explain_picture.write(tmp_path / "explain.png", pictures.QUESTION)
    with Image.open(tmp_path / "explain.png") as drawn, Image.open(pictures.ASSETS / "explain.png") as shown:
        assert drawn.width == shown.width == explain_picture.WIDTH
        assert 700 < drawn.height < 1200
        colours = {colour for count, colour in drawn.convert("RGB").getcolors() if count > 200}
    assert any(red > 180 and max(green, blue) < 60 for red, green, blue in colours), "no frame is in sight"
    assert any(abs(red - 0xB4) + abs(green - 0x5F) + abs(blue - 0x06) < 20 for red, green, blue in colours), "no lane is in sight"


def test_the_chart_by_layer_is_what_the_methods_keep() -> None:
    fresh, shown = layers_picture.layers(pictures.QUESTION), (pictures.ASSETS / "layers.svg").read_text(encoding="utf-8")
    assert re.findall(r">(\w+, \d+ % kept)<", fresh) == [f"{name}, 30 % kept" for name in layers_picture.METHODS]
    assert len(lines(fresh)) == len(lines(shown)) == 3 * len(layers_picture.METHODS)
    for ours, theirs in zip(lines(fresh), lines(shown), strict=True):
        assert ours == pytest.approx(theirs, abs=3), "python -m docs.make pictures"


def lines(svg: str) -> list[list[float]]:
    """The coordinates of every line of a chart, in pixels."""
    return [[float(part) for part in re.split("[ ,]", points)] for points in re.findall(r'points="([^"]+)"', svg)]
