"""The page in headless Chromium: no errors, no requests, the slider and the keys change what is drawn, the layout fits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnidrop_cli.explain.page import page
from tests.explain.browser import Browser, chromium
from tests.explain.scenes import demo_explanation
from tests.explain.test_page import hostile

pytestmark = [pytest.mark.slow, pytest.mark.skipif(chromium() is None, reason="there is no chromium (apt-get install chromium)")]

FINGERPRINT = """[...document.querySelectorAll("#film-canvas, .run canvas")].map((canvas) => canvas.toDataURL()).join()"""

CELLS = "[...one.rows].map((row) => [...row.cells].map((cell) => cell.textContent))"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = tmp_path_factory.mktemp("page") / "report.html"
    written.write_text(page(demo_explanation()), encoding="utf-8")
    return written


@pytest.fixture
def tab(path: Path) -> Iterator[Browser]:
    with Browser() as browser:
        browser.open(path)
        yield browser


def drawn(tab: Browser) -> str:
    tab.settle()
    fingerprint = tab.run(FINGERPRINT)
    assert isinstance(fingerprint, str)
    return fingerprint


def choose(tab: Browser, layer: int) -> None:
    tab.run(f"(() => {{ const one = document.getElementById('layer'); one.value = {layer}; one.dispatchEvent(new Event('input')); }})()")


def layer_of(tab: Browser) -> int:
    tab.settle()
    return int(tab.run("document.getElementById('layer').value"))


def test_no_errors_and_nothing_is_fetched(tab: Browser, path: Path) -> None:
    drawn(tab)
    tab.run("fetch('http://127.0.0.1:9/x').catch(() => 0)")  # what the policy refuses is an error, so errors are seen here
    assert any("Content Security Policy" in error for error in tab.errors)
    tab.errors.clear()
    assert tab.requests == [path.resolve().as_uri()]
    tab.run("document.getElementById('play').click()")
    drawn(tab)
    assert tab.errors == []


def test_the_slider_changes_what_is_drawn(tab: Browser) -> None:
    before, words = drawn(tab), tab.run("document.getElementById('status').textContent")
    choose(tab, 8)
    assert drawn(tab) != before
    assert tab.run("document.getElementById('status').textContent") != words
    assert "layer 8 sees" in tab.run("document.getElementById('status').textContent")


def test_keys(tab: Browser) -> None:
    tab.run("document.getElementById('layer').focus()")
    tab.press("ArrowRight", 39)
    assert layer_of(tab) == 1
    tab.run("document.activeElement.blur()")
    tab.press(".")
    tab.press(".")
    assert layer_of(tab) == 3
    tab.press(",")
    assert layer_of(tab) == 2
    tab.press("p")
    assert tab.run("document.getElementById('play').getAttribute('aria-pressed')") == "true"
    tab.press("p")
    assert tab.run("document.getElementById('play').getAttribute('aria-pressed')") == "false"


def test_play_ends_at_the_last_layer(tab: Browser) -> None:
    choose(tab, 9)
    tab.run("document.getElementById('play').click()")
    tab.run("new Promise((done) => setTimeout(done, 2000))")
    assert layer_of(tab) == 11
    assert tab.run("document.getElementById('play').textContent") == "Play"


def test_colours_and_themes_draw_differently(tab: Browser) -> None:
    seen = {drawn(tab)}
    tab.run("const m = document.getElementById('mode'); m.value = 'depth'; m.dispatchEvent(new Event('change'));")
    seen.add(drawn(tab))
    tab.run("document.getElementById('theme').click()")
    seen.add(drawn(tab))
    assert len(seen) == 3


def test_the_chosen_layer_as_a_table(tab: Browser) -> None:
    tab.run("document.getElementById('chunks').open = true")
    choose(tab, 5)
    tab.settle()
    rows = json.loads(tab.run(f"JSON.stringify([...document.querySelectorAll('#chunk-tables table')].map((one) => {CELLS}))"))
    report = demo_explanation().first
    body = rows[0][1:]
    assert sum(int(row[1]) for row in body) == report.trace.entering[5].audio
    assert sum(int(row[3]) for row in body) == report.trace.entering[5].video
    assert len(body) == 5


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_sticks_out(path: Path, width: int, tmp_path: Path) -> None:
    with Browser(width) as tab:
        tab.open(path)
        assert tab.run("document.scrollingElement.scrollWidth <= innerWidth")
        tab.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 20_000


def test_every_control_has_a_name(tab: Browser) -> None:
    tree = tab.send("Accessibility.getFullAXTree")["nodes"]
    named = {"button", "slider", "combobox", "image", "region", "Canvas", "table"}
    for node in tree:
        role = node.get("role", {}).get("value")
        if role in named and not node.get("ignored"):
            assert node.get("name", {}).get("value"), node


def test_markup_in_question_and_answer_stays_text(tmp_path: Path) -> None:
    written = tmp_path / "hostile.html"
    written.write_text(page(hostile()), encoding="utf-8")
    with Browser() as tab:
        tab.open(written)
        tab.run("document.getElementById('chunks').open = true")
        drawn(tab)
        assert tab.run("document.querySelectorAll('img').length") == 0
        assert not [error for error in tab.errors if "clip" not in error and "Not allowed to load" not in error and "ERR_FILE" not in error]
        assert "alert(1)" in tab.run("document.querySelector('h1').textContent")
