"""Building blocks of terminal output on every width."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from omnidrop_cli.report.columns import Column, DataTable, facts, phrases
from tests.report.test_tables import render

TABLE = DataTable(
    (Column("model", right=False), Column("on disk"), Column("stored", 1, right=False), Column("revision", 2)),
    (("Qwen2.5-Omni-7B", "10.1 GB", "nf4", "abc1234"), ("nano", "12.9 MB", "none", "")),
)


@given(st.lists(st.text("ab ", min_size=1, max_size=12), min_size=1, max_size=12), st.integers(14, 60))
def test_phrases_stay_whole_and_within_the_width(pieces: list[str], width: int) -> None:
    said = phrases(*pieces)
    lines = said.lines(width)
    assert all(cell_len(line) <= width for line in lines)
    assert ", ".join(said.pieces) == " ".join(lines)


@pytest.mark.parametrize(
    ("width", "columns"),
    [(80, ["model", "on disk", "stored", "revision"]), (36, ["model", "on disk", "stored"]), (24, ["model", "on disk"])],
)
def test_columns_leave_by_rank(width: int, columns: list[str]) -> None:
    head = render(TABLE, width).splitlines()[0]
    assert [column.name for column in TABLE.columns if column.name in head] == columns


def test_where_nothing_fits_each_row_has_lines_of_its_own() -> None:
    assert render(TABLE, 22).splitlines()[:4] == ["Qwen2.5-Omni-7B", "  on disk  10.1 GB", "  stored   nf4", "  revision abc1234"]


def test_values_wrap_under_their_own_column() -> None:
    drawn = render(facts([("name", phrases("one phrase", "another phrase", "a third one"))]), 24)
    assert drawn.splitlines() == ["name one phrase,", "     another phrase,", "     a third one"]
