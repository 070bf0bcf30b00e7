"""Where a command writes: the answer on stdout or in a file, everything else on stderr.

Knows: terminals, pipes, progress bars, quietness. Does not know what a report holds (`report/`).

stdout carries the answer alone, or one JSON document. Control characters are stripped from every text wherever it goes, a file and a
pipe included, since both end on somebody's terminal; newlines and tabs stay (`report/text.py`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omnidrop_cli.commands._options import OUTPUT, flag
from omnidrop_cli.errors import UsageError
from omnidrop_cli.events import Observer
from omnidrop_cli.fileio import write_text
from omnidrop_cli.report.text import clean, escape_json, one_line

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, TaskID


@dataclass(frozen=True, slots=True)
class ConsoleFlags:
    """What every command takes. `debug` is read by `_exit.py`, which outlives the parse; here it stands for the help."""

    quiet: Annotated[bool, typer.Option("--quiet", "-q", rich_help_panel=OUTPUT, help="Errors and the answer only.")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", rich_help_panel=OUTPUT, help="Say every stage.")] = False
    no_color: Annotated[bool, typer.Option("--no-color", rich_help_panel=OUTPUT, help="No colours; so does NO_COLOR.")] = False
    debug: Annotated[bool, typer.Option("--debug", rich_help_panel=OUTPUT, help="Show the traceback of an error.")] = False


JsonFlag = Annotated[bool, typer.Option("--json", rich_help_panel=OUTPUT, help="One JSON object on stdout.")]
OutputFlag = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", rich_help_panel=OUTPUT, help="Write to FILE, whole or not at all.")
]
StreamFlag = Annotated[bool, flag("stream", "Print the answer as it is made.", OUTPUT, "--stream/--no-stream")]
TableFlag = Annotated[bool, flag("table", "Show tokens, times and memory on stderr.", OUTPUT, "--table/--no-table")]


def stderr_console(flags: ConsoleFlags) -> Console:
    """A console on stderr that parses nothing in the text it is given."""
    from rich.console import Console

    return Console(stderr=True, markup=False, highlight=False, emoji=False, no_color=flags.no_color or None)


def stdout_console(flags: ConsoleFlags) -> Console:
    """The same on stdout, for the commands whose answer is a table."""
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False, no_color=flags.no_color or None)


class Screen(Observer):
    """Draws a running job. A context: leaving it takes the progress bar away, also after an error.

    On a terminal: a bar on stderr until the answer begins. Elsewhere: nothing, or with -v a plain line per stage. `stream` prints
    the answer's pieces on stdout as they come.
    """

    def __init__(self, flags: ConsoleFlags, *, stream: bool = False) -> None:
        self._flags = flags
        self._stream = stream
        self._console = stderr_console(flags)
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._last = ""
        self.warned: set[str] = set()

    def __enter__(self) -> Screen:
        if self._console.is_terminal and not self._flags.quiet:
            self._progress = self._bar()
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._take_away()
        if self.streamed and not self._last.endswith("\n"):
            write_stdout("\n")

    @property
    def streamed(self) -> bool:
        """Whether a piece of the answer is on stdout already."""
        return bool(self._last)

    def stage(self, name: str, detail: str = "") -> None:
        line = one_line(f"{name} {detail}")
        if self._progress is not None:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(line, total=None)
        elif self._flags.verbose and not self._console.is_terminal:
            self._console.print(line, soft_wrap=True)

    def advance(self, done: float, total: float | None) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total)

    def detail(self, text: str) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=one_line(text))

    def text(self, piece: str) -> None:
        if self._stream and (piece := clean(piece)):
            self._take_away()
            self._last = piece
            write_stdout(piece)

    def warn(self, message: str) -> None:
        if message not in self.warned and not self._flags.quiet:
            self._console.print(f"warning: {one_line(message)}", style="yellow", soft_wrap=True)
        self.warned.add(message)

    def show(self, *parts: RenderableType) -> None:
        """Print on stderr, unless quiet."""
        if not self._flags.quiet:
            for part in parts:
                self._console.print(part)

    def _take_away(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = self._task = None

    def _bar(self) -> Progress:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = SpinnerColumn("line"), TextColumn("{task.description}", markup=False), BarColumn(24), TimeElapsedColumn()
        return Progress(*columns, console=self._console, transient=True)


def write_stdout(text: str) -> None:
    """Text on stdout at once; nothing where stdout is closed."""
    if sys.stdout is not None:
        sys.stdout.write(text)
        sys.stdout.flush()


def emit(text: str, target: Path | None) -> None:
    """The command's result and a newline, on stdout or, whole or not at all, in a file."""
    text = text if text.endswith("\n") else text + "\n"
    if target is None:
        write_stdout(text)
    else:
        write_text(target, text)


def dump(value: Mapping[str, Any]) -> str:
    """One line of JSON, readable in any script, harmless on a terminal. Numbers that JSON lacks are refused."""
    return escape_json(json.dumps(value, ensure_ascii=False, allow_nan=False))


def check_target(target: Path | None) -> None:
    """Raise `UsageError` where a result could not be written; asked before the work is done."""
    if target is None:
        return
    folder = target.absolute().parent
    if target.is_dir():
        raise UsageError(f"--output {one_line(str(target))} is a folder", "give a file")
    if not folder.is_dir():
        raise UsageError(f"--output: there is no folder {one_line(str(folder))}", "make it first")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"--output: {one_line(str(folder))} cannot be written to", "choose another folder")
