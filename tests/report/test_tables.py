"""The tables as they look: on 80 columns, on fewer, without colours, from a saved report, with hostile text in them.

After a wanted change of looks: `python -m tests.report.test_tables` writes the expected files anew; read their diff.
"""

from __future__ import annotations

import io
import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType

from omnidrop_cli.config import PruningConfig
from omnidrop_cli.outputs import Answer, Counts, Report
from omnidrop_cli.report.compare_table import ComparisonTable
from omnidrop_cli.report.json import comparison_from_dict, comparison_to_dict, from_dict, to_dict
from omnidrop_cli.report.svg import to_svg
from omnidrop_cli.report.tables import ReportTable, layer_runs
from tests.report import samples

EXPECTED = Path(__file__).parent / "expected"
CASES: dict[str, tuple[RenderableType, int]] = {
    "report_80": (ReportTable(samples.report()), 80),
    "report_50": (ReportTable(samples.report()), 50),
    "unpruned_80": (ReportTable(samples.full_report()), 80),
    "comparison_80": (ComparisonTable(samples.comparison()), 80),
    "comparison_50": (ComparisonTable(samples.comparison()), 50),
}


def render(what: RenderableType, width: int = 80, colour: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=width, no_color=not colour, force_terminal=colour, markup=False, highlight=False).print(what)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


@pytest.mark.parametrize("name", CASES)
def test_looks_as_expected(name: str) -> None:
    what, width = CASES[name]
    drawn = render(what, width)
    assert drawn == (EXPECTED / f"{name}.txt").read_text(encoding="utf-8")
    assert max(map(cell_len, drawn.splitlines())) <= width


def test_colours_add_nothing_but_colour() -> None:
    plain, coloured = (render(ReportTable(samples.report()), colour=colour) for colour in (False, True))
    assert "\x1b[" in coloured
    assert "\x1b[" not in plain


def test_a_saved_report_renders_the_same() -> None:
    saved = json.loads(json.dumps(to_dict(samples.report())))
    assert render(ReportTable(from_dict(saved))) == render(ReportTable(samples.report()))
    saved = json.loads(json.dumps(comparison_to_dict(samples.comparison())))
    assert render(ComparisonTable(comparison_from_dict(saved))) == render(ComparisonTable(samples.comparison()))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_folded_rows_cover_every_layer_once(sizes: list[int]) -> None:
    entering = [Counts(1, size, 2 * size) for size in sizes]
    runs = layer_runs(entering)
    assert [run.counts for run in runs for _ in range(run.first, run.last + 1)] == entering
    assert all(left.counts != right.counts for left, right in itertools.pairwise(runs))


def test_every_layer_is_one_row_without_pruning() -> None:
    assert "0-11" in render(ReportTable(samples.full_report()))
    assert "nothing pruned" in render(ReportTable(samples.full_report()))


HOSTILE = "\x1b]0;owned\x07 [red]bold[/] \u202egnp.exe \x9b31m :smile: \udcff"


def hostile() -> Report:
    report = samples.report(warnings=(f"odd {HOSTILE}",), answer=Answer(HOSTILE, (1,), HOSTILE), method=HOSTILE)
    job = replace(report.job, media=HOSTILE, method=PruningConfig("omnidrop", options={HOSTILE: HOSTILE}))
    return replace(report, job=job, model=replace(report.model, name=HOSTILE))


@pytest.mark.parametrize("table", [ReportTable(hostile()), ComparisonTable(replace(samples.comparison(), pruned=hostile()))])
def test_text_from_outside_neither_steers_nor_styles(table: RenderableType) -> None:
    drawn = render(table, 300)
    assert not set(drawn) & set("\x1b\x07\x9b\u202e\udcff")
    assert "[red]bold[/]" in drawn
    assert ":smile:" in drawn


def test_a_console_that_parses_markup_does_no_harm() -> None:
    out = io.StringIO()
    Console(file=out, width=300).print(ReportTable(hostile()), ComparisonTable(replace(samples.comparison(), pruned=hostile())))
    assert "[red]bold[/]" in out.getvalue()


def test_warnings_already_said_are_not_repeated() -> None:
    report = samples.report()
    assert "warning: the last 0.1 s" in render(ReportTable(report))
    assert "warning" not in render(ReportTable(report, frozenset(report.warnings)))


def test_only_text_and_no_time_still_render() -> None:
    prompt = Counts(9, 0, 0)
    bare = samples.report(prompt=prompt, trace=samples.trace([0, 0, 0], prompt), frames=0, frame_size=None, fps=None, audio_s=0.0)
    drawn = render(ReportTable(bare))
    assert "no pictures" in drawn
    assert "retention" not in drawn


def test_svg_is_the_same_each_time() -> None:
    first, second = (to_svg(ReportTable(samples.report()), title="omnidrop ask", width=80) for _ in range(2))
    assert first == second
    assert first.startswith("<svg")
    assert "omnidrop&#160;ask" in first or "omnidrop ask" in first


if __name__ == "__main__":
    for name, (what, width) in CASES.items():
        (EXPECTED / f"{name}.txt").write_text(render(what, width), encoding="utf-8")
