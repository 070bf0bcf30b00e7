"""The results in every format, the questions that flipped, and the plot."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from omnidrop_cli import figure
from omnidrop_cli.config import MediaConfig
from omnidrop_cli.errors import UsageError
from omnidrop_cli.evaluate import flips, plot, score_tables
from omnidrop_cli.evaluate.benchmarks import avut
from omnidrop_cli.evaluate.items import Measured, Question, Row
from omnidrop_cli.evaluate.summary import Summary, summarise

RIGHT = {"none": "111110", "omnidrop@0.3": "110110", "omnidrop@0.1": "100011", "ran|dom_x@0.3": "000100"}
"""Method to one digit per question: 1 is right."""

KEPT = {"none": 1.0, "omnidrop@0.3": 0.3, "omnidrop@0.1": 0.1, "ran|dom_x@0.3": 0.3}


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return [Question(f"q{n}", f"/data/clip{n // 2}.mp4", f"What {n}?", ("A. a", "B. b"), "A", {"task": f"t{n % 2}"}) for n in range(6)]


@pytest.fixture(scope="module")
def answers(questions: list[Question]) -> dict[str, dict[str, Row]]:
    def row(method: str, question: Question, right: bool) -> Row:
        kept = KEPT[method]
        measured = Measured(100, 90, kept, kept, 0.1, kept, 0.1, 500.0, 10 * kept, 1000, round(1000 * kept), 500)
        letter = "A" if right else "B"
        return Row("k", "avut", question.id, question.media, method, question.labels, "A", letter, letter, right, measured)

    return {
        method: {q.id: row(method, q, digit == "1") for q, digit in zip(questions, digits, strict=True)} for method, digits in RIGHT.items()
    }


@pytest.fixture(scope="module")
def summary(questions: list[Question], answers: dict[str, dict[str, Row]]) -> Summary:
    return summarise(avut.BENCHMARK, questions, answers, MediaConfig())


@pytest.mark.parametrize("width", [50, 80, 120, 250])
def test_tables_fit_the_terminal(summary: Summary, width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(score_tables.terminal(summary))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    flat = " ".join(text.split())
    assert all(name in flat for name in (*RIGHT, "Methods", "By task", "Pairs"))
    assert "83.3 [43.6, 97.0]" in flat, "5 of 6 with Wilson's interval"
    if width > 50:  # below, every method is a list of all its figures
        assert ("peak MB" in flat) == (width == 250)


def test_csv_has_plain_numbers_for_every_method(summary: Summary) -> None:
    rows = list(csv.DictReader(io.StringIO(score_tables.comma_separated(summary))))
    assert [row["method"] for row in rows] == ["none", "omnidrop@0.3", "omnidrop@0.1", "ran|dom_x@0.3"]
    full, pruned = rows[0], rows[1]
    assert (full["n"], full["correct"], float(full["accuracy"])) == ("6", "5", pytest.approx(5 / 6))
    assert float(pruned["less_full_difference"]) == pytest.approx(-1 / 6)
    assert full["less_full_difference"] == ""
    assert (float(pruned["retention_after"]), float(pruned["flops"])) == (0.3, 0.3)
    assert float(pruned["flops_with_encoders"]) == pytest.approx((300 + 500) / (1000 + 500))


def test_latex_is_one_table_with_escaped_names(summary: Summary) -> None:
    text = score_tables.latex(summary)
    header, body = re.findall(r"\\toprule\n(.*)\n\\midrule\n(.*)\n\\bottomrule", text, re.DOTALL)[0]
    lines = body.splitlines()
    assert len(lines) == len(RIGHT)
    assert {line.count(" & ") for line in (header, *lines)} == {header.count(" & ")}
    assert all(line.endswith(r" \\") for line in (header, *lines))
    assert lines[3].startswith(r"ran|dom\_x@0.3 & 6 & ")
    assert r"accuracy \% [95 \%]" in header
    assert text.startswith("% 6 questions")


def test_flips_are_the_questions_on_which_two_methods_differ(questions: list[Question], answers: dict[str, dict[str, Row]]) -> None:
    found = flips.flips(questions, answers, "none", "omnidrop@0.1")
    assert [(flip.question, flip.change) for flip in found] == [("q1", "lost"), ("q2", "lost"), ("q3", "lost"), ("q5", "gained")]
    assert (found[0].first, found[0].second, found[0].gold) == ("A", "B", "A")
    section = flips.section(found, "none", "omnidrop@0.1")
    assert section.title == "none → omnidrop@0.1: 3 lost, 1 gained"
    assert "clip0.mp4" in section.rows[0]
    assert json.loads(json.dumps(flips.to_json(found, "none", "omnidrop@0.1")))["flips"][3]["question"] == "q5"
    assert flips.flips(questions, answers, "none", "none") == []
    with pytest.raises(UsageError, match="not among") as caught:
        flips.flips(questions, answers, "none", "omnidrop@0.33")
    assert "omnidrop@0.3" in str(caught.value.hint)


@pytest.mark.parametrize(("suffix", "head"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_a_plot_needs_no_display(summary: Summary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, head: bytes) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    path = tmp_path / f"plot{suffix}"
    figure.check(path)
    plot.draw(summary, path)
    assert path.read_bytes().startswith(head)
    assert list(tmp_path.iterdir()) == [path]


def test_encoder_cost_is_unknown_where_a_row_does_not_have_it(questions: list[Question], answers: dict[str, dict[str, Row]]) -> None:
    earlier = {
        method: {name: replace(row, measured=replace(row.measured, flops_encoders=0)) for name, row in rows.items() if row.measured}
        for method, rows in answers.items()
    }
    summary = summarise(avut.BENCHMARK, questions, earlier, MediaConfig())
    assert {entry.flops_with_encoders for entry in summary.methods} == {None}
    assert [panel.cost for panel in plot._panels(summary)] == ["retention_after", "flops"]


def test_a_plot_has_a_panel_for_each_value_of_a_label(
    summary: Summary, questions: list[Question], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda picture, part, **facts: (drawn.append(picture), Path(part).write_bytes(b"x")))
    plot.draw(summary, tmp_path / "plot.png", by="task")
    (picture,) = drawn
    assert [axis.get_title() for axis in picture.axes] == ["t0 (3)", "t1 (3)"]
    lines = {container.get_label(): container[0] for container in picture.axes[1].containers}
    assert list(lines["omnidrop"].get_ydata()) == pytest.approx([100 / 3, 200 / 3])
    plot.check_label(questions, "task")
    with pytest.raises(UsageError, match="no such label") as caught:
        plot.check_label(questions, "taks")
    assert "task" in str(caught.value.hint)


def test_a_plot_joins_the_budgets_of_a_method(summary: Summary) -> None:
    from matplotlib.figure import Figure

    axis = Figure().subplots()
    plot._lines(axis, summary, plot._panels(summary)[0])
    lines = {container.get_label(): container[0] for container in axis.containers}
    assert set(lines) == {"omnidrop", "ran|dom_x"}
    assert lines["omnidrop"].get_xdata() == pytest.approx([10, 30])
    assert lines["omnidrop"].get_ydata() == pytest.approx([50, 400 / 6])


def test_what_cannot_be_drawn_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="cannot draw"):
        figure.check(tmp_path / "plot.bmp")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(UsageError) as caught:
        figure.check(tmp_path / "plot.png")
    assert figure.REQUIREMENT in str(caught.value.hint)
