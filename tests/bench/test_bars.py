"""A bench as a picture: a bar for every figure, a reason where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from omnidrop_cli.bench.bars import draw
from omnidrop_cli.bench.measurement import BenchReport, Group, Measurement
from tests.commands.running import run


@pytest.fixture
def report() -> BenchReport:
    fast = Measurement("omnidrop@0.3", 3, cold_s=0.9, seconds=0.4, low_s=0.3, high_s=0.5, peak_mb=90.0)
    slow = Measurement("none", 3, cold_s=1.0, seconds=1.0, low_s=0.9, high_s=1.2, peak_mb=120.0)
    failed = Measurement("none, stock", 1, problem="out of memory")
    eager = Measurement("none, eager", 3, cold_s=0.1, seconds=0.1, low_s=0.1, high_s=0.1)
    return BenchReport("prefill", "a card", 3, [Group("prefill", [slow, fast]), Group("decoding", [failed, eager])], ())


@pytest.mark.parametrize(("suffix", "head"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_it_needs_no_display(report: BenchReport, suffix: str, head: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    path = tmp_path / f"bench{suffix}"
    draw(report, path)
    assert path.read_bytes().startswith(head)
    assert list(tmp_path.iterdir()) == [path]


def test_bars_are_the_figures(report: BenchReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda picture, part, **facts: (drawn.append(picture), Path(part).write_bytes(b"x")))
    draw(report, tmp_path / "bench.png")
    seconds, memory, decoding, nothing = drawn[0].axes
    assert [patch.get_width() for patch in seconds.patches] == [1.0, 0.4]
    assert [label.get_text() for label in seconds.get_yticklabels()] == ["none", "omnidrop@0.3"]
    assert [patch.get_width() for patch in memory.patches] == [120.0, 90.0]
    assert [patch.get_width() for patch in decoding.patches] == [0.1]
    assert [text.get_text() for text in decoding.texts] == ["out of memory"]
    assert not nothing.axison


@pytest.mark.parametrize(("name", "words"), [("bench.bmp", "cannot draw a .bmp"), ("nowhere/bench.png", "no folder")])
def test_what_cannot_be_drawn_is_refused_before_anything_is_measured(name: str, words: str, tmp_path: Path) -> None:
    done = run("bench", "--model", "no-such-model", "--plot", name, cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
