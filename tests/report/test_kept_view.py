"""Bars and time line of survivors on every width."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from omnidrop_cli.outputs import Report
from omnidrop_cli.report.json import from_dict, to_dict
from omnidrop_cli.report.kept_view import KeptView, moment_means
from tests.report import samples
from tests.report.test_tables import render

REPORTS = {
    "both": samples.placed_report(),
    "audio": samples.placed_report(samples.token_map(grids=0)),
    "video": samples.placed_report(samples.token_map(audio=0)),
    "long": replace(
        samples.placed_report(samples.token_map(384, 3, 4, 15_000, 1.5625)), clips=(samples.clip(duration_s=600.0, start_s=3600.0),)
    ),
}


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("name", REPORTS)
def test_lines_fit(name: str, width: int) -> None:
    lines = render(KeptView(REPORTS[name]), width).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert "\u2026" not in "".join(lines)
    assert sum(line.startswith(("audio", "video")) for line in lines) == (2 if name in ("both", "long") else 1)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_every_clip_has_a_time_line(width: int) -> None:
    drawn = render(KeptView(samples.several_clips((6, 4, 4, 150), (0, 1, 1, 80), (4, 2, 6, 0))), width)
    assert max(map(cell_len, drawn.splitlines())) <= width
    assert [line for line in drawn.splitlines() if line.startswith("clip ")] == [f"clip {n}: clip-{n}.mp4" for n in (1, 2, 3)]
    assert sum(line.startswith(("audio ", "video ")) for line in drawn.splitlines()) == 4


def test_ascii_terminals_get_ascii() -> None:
    render(KeptView(REPORTS["both"]), 60, encoding="ascii")  # raises on the first character that is not


def test_a_saved_report_draws_the_same() -> None:
    report = REPORTS["both"]
    assert render(KeptView(from_dict(to_dict(report, kept=True)))) == render(KeptView(report))


def test_without_places_the_bars_remain() -> None:
    drawn = render(KeptView(from_dict(to_dict(REPORTS["both"]))))
    assert "layer" in drawn
    assert "moment" not in drawn


def only_the_middle_survives() -> Report:
    tokens = samples.token_map(grids=0, audio=150)
    report = samples.placed_report(tokens, attention=False)
    middle = np.flatnonzero((tokens.modality == 0) | ((tokens.time_s >= 2) & (tokens.time_s < 4)))
    everything = np.arange(len(tokens))
    return replace(report, trace=replace(report.trace, kept=(everything, *(middle for _ in report.trace.kept[1:]))))


def test_height_follows_depth() -> None:
    line = next(line for line in render(KeptView(only_the_middle_survives()), 67).splitlines() if line.startswith("audio  "))
    assert line[7:] == "\u2581" * 20 + "\u2588" * 20 + "\u2581" * 20


@given(st.lists(st.floats(0, 9), min_size=1, max_size=50), st.integers(1, 200))
def test_moments_lie_between_the_least_and_the_most(at_s: list[float], cells: int) -> None:
    values = np.array(at_s) / 9
    means = moment_means(np.array(at_s, np.float32), values, 9.0, cells)
    assert len(means) == cells
    assert values.min() - 1e-9 <= min(means) <= max(means) <= values.max() + 1e-9
