"""Where a command writes: the result on stdout or in a file, everything else on stderr.

stdout carries the answer alone, or one JSON document. Control characters are stripped from every text wherever it goes, a file and a
pipe included, since both end on somebody's terminal; newlines and tabs stay (`report/text.py`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from omnidrop_cli.commands._options import ConsoleFlags, as_flags
from omnidrop_cli.errors import UsageError
from omnidrop_cli.events import ProgressCallback
from omnidrop_cli.fileio import write_text
from omnidrop_cli.report.text import clean, escape_json, one_line

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import RenderableType
    from rich.progress import Progress, TaskID


def _rich(flags: ConsoleFlags, *, stderr: bool) -> RichConsole:
    """A console that parses nothing in the text it is given."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, no_color=flags.no_color or None)


class Console(ProgressCallback):
    """Both streams of a command, and the progress of what runs. A context: leaving it removes the progress bar, also after an error.

    On a terminal: a bar on stderr until the answer begins, or until the context ends. Elsewhere, also where colors are forced into a
    pipe: no bar, and with --verbose a plain line per stage. `stream` prints the answer's pieces on stdout as they come.
    """

    def __init__(self, flags: ConsoleFlags | None = None, *, stream: bool = False) -> None:
        self._flags = flags or ConsoleFlags()
        self._stream = stream
        self.err = _rich(self._flags, stderr=True)
        self.quiet = self._flags.quiet
        self.live = _is_live() and not self.quiet
        """Whether a progress bar can be drawn."""
        self.warned: set[str] = set()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._total: int | None = None
        self._last = ""

    def __enter__(self) -> Console:
        if self.live:
            self._progress = self._bar()
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._remove_bar()
        if self.streamed and not self._last.endswith("\n"):
            write_stdout("\n")

    @property
    def streamed(self) -> bool:
        """Whether a piece of the answer is on stdout already."""
        return bool(self._last)

    def print(self, *parts: RenderableType) -> None:
        """Print on stdout, for commands whose result is a table."""
        console = _rich(self._flags, stderr=False)
        for part in parts:
            console.print(part)

    def show(self, *parts: RenderableType) -> None:
        """Print on stderr, unless quiet."""
        if not self.quiet:
            for part in parts:
                self.err.print(part)

    def show_always(self, *parts: RenderableType) -> None:
        """Print on stderr, also when quiet."""
        for part in parts:
            self.err.print(part)

    def say(self, line: str, style: str = "", *, always: bool = False) -> None:
        """Print one line on stderr, unless quiet."""
        if always or not self.quiet:
            self.err.print(as_flags(one_line(line)), style=style, soft_wrap=not _is_live())  # a terminal would wrap inside words

    # ------------------------------------------------------------ progress

    def stage(self, name: str, detail: str = "") -> None:
        line = one_line(f"{name} {detail}")
        if self._total is not None:
            return
        if self._progress is not None:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(line, total=None, count="")
        elif self._flags.verbose and not self.live:
            self.say(line)

    def advance(self, done: float, total: float | None) -> None:
        if self._progress is not None and self._task is not None and self._total is None:
            self._progress.update(self._task, completed=done, total=total)

    def detail(self, text: str) -> None:
        if self._progress is not None and self._task is not None and self._total is None:
            self._progress.update(self._task, description=one_line(text))

    def count(self, done: int, total: int, failed: int = 0, description: str = "") -> None:
        """Show that `done` of `total` items are finished, in place of stages."""
        self._total = total
        if self._progress is not None:
            if self._task is None:
                self._task = self._progress.add_task("", total=total, count="")
            count = f"{done}/{total}" + (f", {failed} failed" if failed else "")
            self._progress.update(self._task, completed=done, total=total, count=count, description=one_line(description))

    def text(self, piece: str) -> None:
        if self._stream and (piece := clean(piece)):
            self._remove_bar()
            self._last = piece
            write_stdout(piece)

    def warn(self, message: str, *, always: bool = False) -> None:
        if message not in self.warned:
            self.warned.add(message)
            self.say(f"warning: {message}", style="yellow", always=always)

    def _remove_bar(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = self._task = None

    def _bar(self) -> Progress:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.table import Column

        words = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        columns = (
            SpinnerColumn("line"),
            BarColumn(24),
            TextColumn("{task.fields[count]}", markup=False),
            TimeElapsedColumn(),
            _remaining(),
            TextColumn("{task.description}", markup=False, table_column=words),
        )
        return Progress(*columns, console=self.err, transient=True, speed_estimate_period=600)


def _remaining() -> Any:
    """Remaining time, where items are counted; a stage's share says nothing about the others."""
    from rich.progress import ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    class Remaining(ProgressColumn):
        _column = TimeRemainingColumn()

        def render(self, task: Task) -> Text:
            return Text("left ").append_text(self._column.render(task)) if task.fields.get("count") else Text()

    return Remaining()


def _is_live() -> bool:
    """Whether stderr is a terminal that moves its cursor. FORCE_COLOR colors a pipe's lines, and must not draw bars into it."""
    stream = sys.stderr
    return stream is not None and stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


# ---------------------------------------------------------------- results

STDOUT: set[str] = set()
"""Holds "used" once something is on stdout: an error object is then no longer the only document there."""


def write_stdout(text: str) -> None:
    """Text on stdout at once; nothing where stdout is closed."""
    if sys.stdout is not None:
        sys.stdout.write(text)
        sys.stdout.flush()
        STDOUT.add("used")


def emit(text: str, target: Path | None = None) -> None:
    """The command's result and a newline, on stdout or atomically in a file."""
    text = text if text.endswith("\n") else text + "\n"
    if target is None:
        write_stdout(text)
    else:
        write_text(target, text)


def dump(value: Mapping[str, Any]) -> str:
    """One line of JSON, readable in any script, harmless on a terminal. Numbers that JSON lacks are refused."""
    return escape_json(json.dumps(value, ensure_ascii=False, allow_nan=False))


def check_target(target: Path | None, flag: str = "--output", inputs: Iterable[str | Path] = ()) -> None:
    """Check that a result can be written, before the work is done.

    Args:
        target: The file to write or replace; None is stdout.
        flag: What named it.
        inputs: What the command reads: files, or addresses.

    Raises:
        UsageError: `target` is a folder or one of `inputs`, or its folder is missing or cannot be written to.
    """
    if target is None:
        return
    name, folder = one_line(str(target)), target.absolute().parent
    if target.is_dir():
        raise UsageError(f"{flag} {name} is a folder", "give a file")
    if not folder.is_dir():
        raise UsageError(f"{flag}: there is no folder {one_line(str(folder))}", "create it first")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"{flag}: {one_line(str(folder))} cannot be written to", "choose another folder")
    if target.is_file() and any(_is_same_file(target, given) for given in inputs):
        raise UsageError(f"{flag} {name} would replace a file that this command reads", "give another name")


def _is_same_file(target: Path, given: str | Path) -> bool:
    with suppress(OSError, ValueError):  # an address, or no file
        return os.path.samefile(target, given)
    return False
