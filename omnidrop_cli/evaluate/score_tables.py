"""A summary as tables: Markdown, CSV, LaTeX, or columns that fit the terminal."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omnidrop_cli.evaluate.summary import LabelGroup, MethodSummary, Pair, Score, Summary

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class Section:
    """One table under a heading. `ranks` are by column title: where a terminal is narrow, the highest go first; 0 stays."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    ranks: Mapping[str, int] | None = None


def markdown(summary: Summary) -> str:
    """The report of an evaluation as Markdown, ending in a line break."""
    return f"# {_cell(summary.title)}\n\n{sections(summary, '##')}"


def sections(summary: Summary, heading: str) -> str:
    """The same without its title, under headings of a given depth."""
    parts = [_facts(summary)]
    for section in _sections(summary):
        parts += [f"{heading} {_cell(section.title)}", *([section.note] if section.note else []), table(section.header, section.rows)]
    return "\n\n".join(parts) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is left-aligned, the others right."""
    lines = [[_cell(text) for text in header], ["---", *["---:"] * (len(header) - 1)], *([_cell(text) for text in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def terminal(summary: Summary) -> RenderableType:
    """The same as tables that fit the terminal: less important columns are left out first, and no cell is cut."""
    from rich.console import Group as Parts
    from rich.text import Text

    from omnidrop_cli.report.text import one_line

    facts = [Text(one_line(line)) for line in (summary.title, *_facts(summary).splitlines())]
    return Parts(*facts, *(fitted(section) for section in _sections(summary)))


def fitted(section: Section) -> RenderableType:
    """One table under its heading, fitted to the terminal."""
    from rich.console import Group as Parts
    from rich.text import Text

    from omnidrop_cli.report.columns import Column, DataTable
    from omnidrop_cli.report.text import one_line

    ranks = section.ranks or {}
    columns = tuple(Column(one_line(name), ranks.get(name, 0), right=number > 0) for number, name in enumerate(section.header))
    rows = tuple(tuple(one_line(cell) for cell in row) for row in section.rows)
    return Parts(Text(), Text(one_line(section.title), style="bold"), DataTable(columns, rows))


def comma_separated(summary: Summary) -> str:
    """One line per method with plain numbers (shares of one, seconds, megabytes), for spreadsheets."""
    against = {pair.second: pair for pair in summary.pairs if pair.first == summary.full}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    costs = ("retention_entering", "retention_after", "prefill_s", "prefill", "flops", "flops_with_encoders", "kv_mb", "peak_mb")
    paired = ("difference", "low", "high", "p", "p_holm")
    scored = ("n", "correct", "accuracy", "low", "high")
    writer.writerow(["method", *scored, *(f"less_full_{name}" for name in paired), "unparsed", "errors", *costs])
    for entry in summary.methods:
        pair = against.get(entry.method)
        writer.writerow(
            [
                _plain(entry.method),
                *(getattr(entry.score, name) for name in scored),
                *("" if pair is None else getattr(pair, name) for name in paired),
                entry.unparsed,
                entry.errors,
                *("" if (value := getattr(entry, name)) is None else value for name in costs),
            ]
        )
    return out.getvalue()


def latex(summary: Summary) -> str:
    """The table of methods for a paper (package booktabs)."""
    section = _by_method(summary)
    lines = [" & ".join(map(_latex, row)) + r" \\" for row in (section.header, *section.rows)]
    columns = "l" + "r" * (len(section.header) - 1)
    body = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*(f"% {line}" for line in _facts(summary).splitlines()), *body]) + "\n"


def _latex(text: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", _plain(text).replace("\\", "")).replace("→", r"$\to$")


def _sections(summary: Summary) -> list[Section]:
    found = [_by_method(summary)]
    found += [_by_label(summary, label) for label in dict.fromkeys(group.label for group in summary.groups)]
    if summary.pairs:
        found.append(_pairs("Pairs", summary.pairs, _PAIRS_NOTE))
    if summary.headline_pairs and summary.headline:
        found.append(_pairs(f"Pairs: {summary.headline[1]} alone", summary.headline_pairs))
    return found


_PAIRS_NOTE = (
    "The second method less the first, in points, on the questions both answered: every method against the full model, and against "
    "the first one with its budget. Interval: 95 % paired bootstrap over clips. p: McNemar's exact test; Holm: corrected for the "
    "number of pairs with the same first method."
)


def percent(share: float | None, digits: int = 1) -> str:
    """A share of one in per cent, without the sign; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.{digits}f}"


def _facts(summary: Summary) -> str:
    model = summary.model
    order = "words before the clip" if summary.text_first else "clip before the words"
    timing = "; published timing (one second per pair of frames, whatever the clip's rate)" if summary.timing == "published" else ""
    media = summary.media_options
    pixels = "" if media.max_pixels is None else f", at most {media.max_pixels} pixels each"
    weights = f", weights {model['weights']}" if model.get("weights") else ""
    lines = [
        f"{summary.questions} questions about {summary.clips} clips; {order}; {media.fps:g} frames per second, "
        f"at most {media.max_frames}{pixels}{timing}.",
        f"Protocol: {summary.protocol}.",
        f"Model: {_cell(str(model.get('name')))} ({model.get('quant')}, {model.get('dtype')}, {model.get('attention')}, "
        f"{model.get('device')}{weights}), greedy."
        if model
        else "Nothing was answered.",
    ]
    if any(entry.errors for entry in summary.methods):
        lines.append("Failed questions are in no other figure; a rerun tries them again.")
    return "\n".join(lines)


def _by_method(summary: Summary) -> Section:
    headline = next((group for group in summary.groups if (group.label, group.value) == summary.headline), None)
    against = {pair.second: pair for pair in summary.pairs if pair.first == summary.full}
    apart = {pair.second: pair for pair in summary.headline_pairs if pair.first == summary.full}
    less = ["less full [95 %]", "p (Holm)"]
    header = [
        "method",
        "n",
        "accuracy % [95 %]",
        *(less if against else []),
        *([f"{headline.value} % [95 %]"] if headline else []),
        *(less if apart else []),
        *_COSTS,
    ]
    ranks = {"n": 3, "p (Holm)": 2, f"{headline.value} % [95 %]" if headline else "": 2, **_COSTS}
    return Section("Methods", header, [_method_cells(entry, headline, against, apart) for entry in summary.methods], ranks=ranks)


_COSTS = {
    "unparsed %": 4,
    "failed": 4,
    "kept % entering": 4,
    "kept % after": 1,
    "prefill s": 3,
    "of full": 2,
    "FLOPs %": 2,
    "with encoders %": 3,
    "KV MB": 5,
    "peak MB": 5,
}
"""Columns behind the accuracies, with their ranks."""


def _method_cells(entry: MethodSummary, headline: LabelGroup | None, against: Mapping[str, Pair], apart: Mapping[str, Pair]) -> list[str]:
    return [
        entry.method,
        str(entry.score.n),
        _score(entry.score),
        *_less(against, entry.method),
        *([_score(headline.scores[entry.method])] if headline else []),
        *_less(apart, entry.method),
        percent(entry.unparsed / entry.score.n if entry.score.n else None),
        str(entry.errors),
        percent(entry.retention_entering),
        percent(entry.retention_after),
        "-" if entry.prefill_s is None else f"{entry.prefill_s:.3f}",
        "-" if entry.prefill is None else f"{entry.prefill:.2f}",
        percent(entry.flops),
        percent(entry.flops_with_encoders),
        "-" if entry.kv_mb is None else f"{entry.kv_mb:.1f}",
        "-" if entry.peak_mb is None else f"{entry.peak_mb:.0f}",
    ]


def _by_label(summary: Summary, label: str) -> Section:
    """Accuracy by group and method; the longer list runs down."""
    title = f"By {label}"
    groups = [group for group in summary.groups if group.label == label]
    sizes = [max(score.n for score in group.scores.values()) for group in groups]
    methods = [entry.method for entry in summary.methods]
    if len(methods) > len(groups):
        header = ["method", *(f"{group.value} ({n})" for group, n in zip(groups, sizes, strict=True))]
        return Section(
            title, header, [[entry.method, *(_score(group.scores[entry.method]) for group in groups)] for entry in summary.methods]
        )
    header = [label, "n", *(entry.method for entry in summary.methods)]
    rows = [
        [group.value, str(n), *(_score(group.scores[entry.method]) for entry in summary.methods)]
        for group, n in zip(groups, sizes, strict=True)
    ]
    return Section(title, header, rows)


def _pairs(title: str, pairs: Sequence[Pair], note: str = "") -> Section:
    header = ["first → second", "n", "difference [95 %]", "only first right", "only second right", "p", "Holm"]
    rows = [
        [
            f"{pair.first} → {pair.second}",
            str(pair.n),
            _difference(pair),
            str(pair.first_only),
            str(pair.second_only),
            _p(pair.p),
            _p(pair.p_holm),
        ]
        for pair in pairs
    ]
    return Section(title, header, rows, note, {"n": 3, "only first right": 2, "only second right": 2, "p": 1})


def _less(pairs: Mapping[str, Pair], method: str) -> list[str]:
    """The two cells of a method's difference; none where no method has one."""
    if not pairs:
        return []
    return [_difference(pairs[method]), _p(pairs[method].p_holm)] if method in pairs else ["-", "-"]


def _difference(pair: Pair) -> str:
    return f"{100 * pair.difference:+.1f} [{100 * pair.low:+.1f}, {100 * pair.high:+.1f}]"


def _score(score: Score) -> str:
    return "-" if not score.n else f"{percent(score.accuracy)} [{percent(score.low)}, {percent(score.high)}]"


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _cell(text: str) -> str:
    """Text from outside, harmless in a Markdown table: no control characters, no cell borders."""
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
