"""Building blocks of terminal output: wrapped phrases, name-value lists and tables that fit 40 to 200 columns.

In: text already formatted. Out: Rich renderables. Everything is `Text` built piece by piece; nothing from outside is parsed as markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from omnidrop_cli.report.text import clean, one_line

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

MIN_VALUE_WIDTH = 12
"""Fewest columns a name-value list leaves to its values."""


@dataclass(frozen=True, slots=True)
class Phrases:
    """Short pieces of text in a row, wrapped between pieces, and at words only inside a piece wider than the line.

    `separator` stands between pieces; a line ends with its visible part. Empty pieces are left out.
    """

    pieces: tuple[str, ...]
    separator: str = ", "
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self.lines(options.max_width):
            yield Text(line, style=self.style, overflow="fold")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        whole = cell_len(self.separator.join(self.pieces))
        words = max((cell_len(word) for piece in self.pieces for word in piece.split()), default=0)
        return Measurement(min(words + 1, options.max_width), min(whole, options.max_width))

    def lines(self, width: int) -> list[str]:
        """The lines of at most `width` columns, as far as single words allow."""
        lines: list[str] = []
        for number, piece in enumerate(self.pieces):
            last = number == len(self.pieces) - 1
            tail = "" if last else self.separator.rstrip()
            joined = f"{lines[-1]}{_gap(self.separator)}{piece}" if lines else piece
            if lines and cell_len(joined + tail) <= width:
                lines[-1] = joined + tail
            else:
                lines.append(piece + tail)
        return lines


def phrases(*pieces: str, separator: str = ", ", style: str = "") -> Phrases:
    """The pieces that are not empty, each cleaned and on one line."""
    return Phrases(tuple(filter(None, map(one_line, pieces))), separator, style)


@dataclass(frozen=True, slots=True)
class FactList:
    """Names on the left in bold, values on the right; on narrow terminals the value is wrapped under its own column."""

    rows: tuple[tuple[str, RenderableType], ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.rows:
            return
        names = max(cell_len(name) for name, _ in self.rows)
        gap = 2 if options.max_width >= 60 else 1
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, gap, 0, 0))
        table.add_column(style="bold", no_wrap=True, width=min(names, max(1, options.max_width - MIN_VALUE_WIDTH)))
        table.add_column(overflow="fold")
        for name, value in self.rows:
            table.add_row(Text(name), value)
        yield table


def facts(rows: Iterable[tuple[str, RenderableType]]) -> FactList:
    """A name-value list; names are cleaned."""
    return FactList(tuple((clean(name), value) for name, value in rows))


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column. Where the table is too wide, columns of the highest `rank` go first; rank 0 always stays."""

    name: str
    rank: int = 0
    right: bool = True


@dataclass(frozen=True, slots=True)
class DataTable:
    """A table that never cuts a cell: it narrows its gaps, then drops ranked columns, then puts each row on lines of its own.

    `dim` are row numbers drawn dim. Cells of left-aligned columns after the first may be `Text`.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str | Text, ...], ...]
    dim: frozenset[int] = frozenset()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = [max(map(cell_len, self._texts(index))) for index in range(len(self.columns))]
        for gap in (2, 1):
            for chosen in self._choices(gap == 1):
                if sum(widths[index] for index in chosen) + gap * (len(chosen) - 1) <= options.max_width:
                    yield self._table(chosen, gap)
                    return
        yield from self._records()

    def _texts(self, index: int) -> list[str]:
        return [self.columns[index].name, *(str(row[index]) for row in self.rows)]

    def _choices(self, dropping: bool) -> list[list[int]]:
        """Column sets to try, widest first: all of them, then without the highest ranks where `dropping`."""
        ranks = sorted({column.rank for column in self.columns}, reverse=True)
        return [
            [index for index, column in enumerate(self.columns) if column.rank <= limit] for limit in (ranks if dropping else ranks[:1])
        ]

    def _table(self, chosen: Sequence[int], gap: int) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold", show_edge=False)
        for index in chosen:
            column = self.columns[index]
            table.add_column(Text(column.name), justify="right" if column.right else "left", no_wrap=True)
        for number, row in enumerate(self.rows):
            cells = [_text(row[index]) for index in chosen]
            table.add_row(*cells, style="dim" if number in self.dim else None)
        return table

    def _records(self) -> Iterable[RenderableType]:
        for row in self.rows:
            yield Text(str(row[0]), style="bold", overflow="fold")
            cells = zip(self.columns[1:], row[1:], strict=True)
            yield Padding(facts((column.name, _text(cell)) for column, cell in cells if str(cell)), (0, 0, 0, 2))


def _text(cell: str | Text) -> Text:
    return cell if isinstance(cell, Text) else Text(clean(cell))


def _gap(separator: str) -> str:
    """What follows a separator's visible part before the next piece on the same line."""
    return separator[len(separator.rstrip()) :]
