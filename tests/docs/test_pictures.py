"""The pictures of the pages are what real runs draw."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.make import explain_picture, pictures
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
