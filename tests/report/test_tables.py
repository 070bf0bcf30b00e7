"""The tables: layout on 40 to 200 columns, without colours, in ASCII, from a saved report, with hostile text in them.

After an intended change: `python -m tests.report.test_tables` writes the expected files; read their diff.
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

from omnidrop_cli.config import GenerationConfig, PruningConfig
from omnidrop_cli.outputs import Answer, Choice, Comparison, Counts, DraftCounts, Flops, Report, Timings
from omnidrop_cli.report.compare_table import ComparisonTable
from omnidrop_cli.report.json import comparison_from_dict, comparison_to_dict, from_dict, to_dict
from omnidrop_cli.report.tables import MAX_ROWS, ReportTable, SummaryLine, layer_runs, layer_table
from tests.report import samples

EXPECTED = Path(__file__).parent / "expected"
WIDTHS = (40, 60, 80, 120, 200)


def repeated() -> Comparison:
    """A comparison of three rounds, over 28 layers."""
    full, pruned = replace(samples.full_report(), trace=samples.trace([35148] * 29, samples.DEEP, "none")), samples.deep_report()
    rounds = [
        (report.timings, *(Timings(prefill_s=prefill) for prefill in times)) for report, times in zip((full, pruned), PREFILLS, strict=True)
    ]
    return replace(samples.comparison(), full=full, pruned=pruned, full_repeats=rounds[0], pruned_repeats=rounds[1])


PREFILLS = ((0.402, 0.498), (0.131, 0.099))
CASES: dict[str, tuple[RenderableType, int]] = {
    **{f"report_{width}": (ReportTable(samples.deep_report()), width) for width in WIDTHS},
    **{f"comparison_{width}": (ComparisonTable(repeated()), width) for width in WIDTHS},
    "unpruned_80": (ReportTable(samples.full_report()), 80),
    "once_80": (ComparisonTable(samples.comparison()), 80),
}


def render(what: RenderableType, width: int = 80, colour: bool = False, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding=encoding)
    Console(file=out, width=width, no_color=not colour, force_terminal=colour, markup=False, highlight=False).print(what)
    out.flush()
    return "\n".join(line.rstrip() for line in raw.getvalue().decode(encoding).splitlines()) + "\n"


@pytest.mark.parametrize("name", CASES)
def test_looks_as_expected(name: str) -> None:
    what, width = CASES[name]
    drawn = render(what, width)
    assert drawn == (EXPECTED / f"{name}.txt").read_text(encoding="utf-8")
    assert max(map(cell_len, drawn.splitlines())) <= width


@pytest.mark.parametrize("width", range(40, 201, 20))
def test_no_cell_is_cut_and_no_line_is_too_long(width: int) -> None:
    for what in (ReportTable(samples.deep_report()), ComparisonTable(repeated()), SummaryLine(samples.deep_report())):
        drawn = render(what, width)
        assert "\u2026" not in drawn
        assert max(map(cell_len, drawn.splitlines())) <= width


@pytest.mark.parametrize("width", [40, 80, 200])
def test_an_ascii_terminal_gets_ascii(width: int) -> None:
    for what in (ReportTable(samples.deep_report()), ComparisonTable(repeated()), SummaryLine(samples.deep_report())):
        render(what, width, encoding="ascii")  # raises on the first character that is not


def test_numbers_and_units_stay_on_one_line() -> None:
    assert not [
        line for line in render(ReportTable(samples.deep_report()), 40).splitlines() if line.split()[0] in ("ms,", "MB", "s,", "GB")
    ]


def test_28_layers_fold_into_twelve_rows() -> None:
    table = layer_table(samples.deep_report())
    assert len(table.rows) == MAX_ROWS
    assert str(table.rows[-1][0]).endswith("27")


def test_a_row_of_unlike_layers_says_that_it_shows_means() -> None:
    runs = layer_runs([Counts(1, 10, 100), Counts(1, 10, 98), Counts(1, 2, 3)], 2)
    assert [(run.name, run.counts, run.exact) for run in runs] == [("0-1", (1, 10, 99), False), ("2", (1, 2, 3), True)]


@given(st.lists(st.integers(0, 900), min_size=1, max_size=40), st.integers(1, 12))
def test_folding_keeps_the_mean(sizes: list[int], limit: int) -> None:
    runs = layer_runs([Counts(1, size, 2 * size) for size in sizes], limit)
    assert len(runs) <= limit
    assert sum(run.layers for run in runs) == len(sizes)
    assert sum(run.media * run.layers for run in runs) == pytest.approx(3 * sum(sizes))


def test_the_summary_is_one_line() -> None:
    assert render(SummaryLine(samples.report())) == "kept 28 % \u00b7 prefill 104 ms \u00b7 first token 14.8 s \u00b7 7.12 GB\n"
    assert render(SummaryLine(samples.full_report())).startswith("nothing pruned")


@pytest.mark.parametrize("whole", ["schema", "choices"])
def test_an_answer_that_comes_whole_has_no_first_token(whole: str) -> None:
    report = samples.report()
    if whole == "schema":
        report = replace(report, job=replace(report.job, generation=GenerationConfig(schema='{"type": "integer"}')))
    else:
        report = replace(report, answer=replace(report.answer, choices=(Choice("yes", 0.9, -1.0), Choice("no", 0.1, -2.0))))
    assert render(SummaryLine(report)) == "kept 28 % \u00b7 prefill 104 ms \u00b7 answer 15.1 s \u00b7 7.12 GB\n"
    drawn = " ".join(render(ReportTable(report), 120).split())
    assert "first token" not in drawn
    assert "total 15.1 s" in drawn


def test_repeats_show_their_spread_and_loading_stays_out() -> None:
    drawn = " ".join(render(ComparisonTable(repeated()), 120).split())
    assert "prefill 412 ms 104 ms 3.96x min-max 402-498 99-131 3.1-5.0" in drawn
    assert "generate 410 ms 260 ms 1.58x all" in drawn  # was not repeated
    assert "all but load 1.35 s 896 ms 1.51x min-max 1.34-1.44 891-923" in drawn


def test_drafted_tokens_are_said() -> None:
    answer = Answer("The quick brown fox.", tuple(range(6)), "eos", drafts=DraftCounts(steps=3, drafted=4, accepted=2))
    drawn = " ".join(render(ReportTable(samples.report(answer=answer)), 120).split())
    assert "6 tokens, 23.1 tokens/s, 2 of 4 drafted tokens taken in 3 steps" in drawn


def test_a_missing_word_costs_one_word() -> None:
    full = replace(samples.full_report(), answer=Answer("The quick brown fox jumps.", (1,), "eos"))
    pruned = samples.report(answer=Answer("Quick brown fox jumps.", (2,), "eos"))
    drawn = render(ComparisonTable(replace(samples.comparison(), full=full, pruned=pruned, agreement=0.0, first_difference=0)))
    assert "[-The-] quick brown fox jumps." in drawn
    assert "80.0 % of the words, 4 of 5 in common" in drawn


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
    assert [Counts(*map(int, run.counts)) for run in runs for _ in range(run.first, run.last + 1)] == entering
    assert all(run.exact for run in runs)
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
    clip = samples.clip(frames=0, frame_size=None, fps=None, audio_s=0.0)
    bare = samples.report(prompt=prompt, trace=samples.trace([0, 0, 0], prompt), clips=(clip,))
    drawn = render(ReportTable(bare))
    assert "no video" in drawn
    assert "retention" not in drawn


if __name__ == "__main__":
    for name, (what, width) in CASES.items():
        (EXPECTED / f"{name}.txt").write_text(render(what, width), encoding="utf-8")


def test_the_encoders_cost_is_said() -> None:
    """(2.3 + 1.7) / (7.7 + 1.7) = 42.6 % remain, so 57.4 % are saved."""
    flops = Flops(7_700_000_000_000, 2_300_000_000_000, 1_700_000_000_000)
    text = render(ReportTable(samples.report(flops=flops)), 120)
    assert "70.1 % saved, 57.4 % with the encoders' 1.7 TFLOPs" in text
