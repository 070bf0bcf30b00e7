"""Progress of a batch: a live bar on a terminal, one plain line per clip elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from omnidrop_cli.batch.batch_run import BatchProgress
from omnidrop_cli.commands._console import Console
from omnidrop_cli.commands._options import ConsoleFlags
from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.report.text import one_line, without_credentials

if TYPE_CHECKING:
    from omnidrop_cli.batch.answers_file import Row
    from omnidrop_cli.batch.inputs import Group


class BatchConsole(BatchProgress):
    """Draws a batch on stderr. A context: leaving it takes the bar away."""

    def __init__(self, flags: ConsoleFlags, groups: Sequence[Group], log_file: Path | None = None) -> None:
        """`log_file` gets every line with its date, whatever the console shows. Raises `OmnidropError` where it cannot be written."""
        self._console, self._verbose = Console(flags), flags.verbose
        self._total = sum(len(group) for group in groups)
        self._open = Counter[str]()
        for group in groups:
            self._open[without_credentials(group[0].job.media)] += len(group)
        self._of_clip: dict[str, Counter[str]] = {}
        self._errors: dict[str, str] = {}
        self._log: TextIO | None = None if log_file is None else _opened(log_file)
        self._done = self._failed = 0
        self.cut = 0
        """Answers of this run that reached their maximum length."""
        self._clip = ""
        self._began = time.monotonic()

    def __enter__(self) -> BatchConsole:
        self._console.__enter__()
        self._draw()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for media in [*self._of_clip]:
            self._clip_done(media)
        self._console.__exit__(kind, error, trace)

    def skipped(self, media: str, count: int) -> None:
        # Out of the total rather than into the done: what took no time must not make the rest look quick.
        self._total -= count
        self._open[without_credentials(media)] -= count
        self._draw()

    def clip(self, media: str) -> None:
        self._clip = one_line(media)
        self._draw()

    def stage(self, name: str, detail: str = "") -> None:
        line = one_line(f"{name} {detail}")
        if self._verbose:
            self._say(f"{self._clip}: {line}" if self._clip else line, shown=not self._console.live)
        self._draw(name if self._clip else line)

    def row(self, row: Row) -> None:
        media = row["media"]["asked"]
        self._done += 1
        failed = "error" in row
        self._failed += failed
        self.cut += row.get("finish_reason") == "length"
        self._of_clip.setdefault(media, Counter())["failed" if failed else "answered"] += 1
        if failed:
            self._errors.setdefault(media, row["error"]["message"])
        for warning in row.get("warnings", ()):
            self.warn(f"{media}: {warning}")
        self._open[media] -= 1
        if self._open[media] <= 0:
            self._clip_done(media)
        self._draw()

    def warn(self, message: str) -> None:
        self._note(f"warning: {message}")
        self._console.warn(message)

    def summary(self, line: str) -> None:
        """A line at the end: in the log, and on stderr also when quiet."""
        self._note(line)
        self._console.say(line, always=True)

    def finishing(self) -> None:
        self._say("finishing what is in work; once more stops at once")

    def _clip_done(self, media: str) -> None:
        """One line per clip: in the log and where there is no bar of every clip, of a failing one always."""
        of_clip, error = self._of_clip.pop(media, None), self._errors.pop(media, None)
        if of_clip:
            counts = ", ".join(f"{count} {what}" for what, count in sorted(of_clip.items()))
            why = "" if error is None else f": {one_line(error)}"
            line = f"{self._done}/{self._total} {one_line(media)}: {counts} ({time.monotonic() - self._began:.0f} s){why}"
            self._say(line, "" if error is None else "red", shown=error is not None or not self._console.live)

    def _say(self, line: str, style: str = "", *, shown: bool = True) -> None:
        """A line on stderr, with the time where that is no terminal, and with the date in the log file."""
        self._note(line)
        if shown:
            self._console.say(line if self._console.live else f"{time.strftime('%H:%M:%S')} {line}", style)

    def _note(self, line: str) -> None:
        if self._log is None:
            return
        try:
            self._log.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')} {one_line(line)}\n")
            self._log.flush()
        except OSError as error:  # the answers have a file of their own: the run goes on
            self._log = None
            self._console.warn(f"--log-file ends here: {(error.strerror or str(error)).lower()}", always=True)

    def _draw(self, stage: str = "") -> None:
        text = " · ".join(filter(None, (self._clip, stage))) or "starting"
        self._console.count(self._done, self._total, self._failed, text)


def _opened(log_file: Path) -> TextIO:
    try:
        return log_file.open("a", encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OmnidropError(f"--log-file {log_file} cannot be written: {reason}", "choose another place") from error
