"""`omnidrop history`: answers that were kept: list, search, show, ask again, forget."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from omnidrop_cli import history
from omnidrop_cli.commands._complete import COMPLETIONS
from omnidrop_cli.commands._console import Console, dump, emit
from omnidrop_cli.commands._options import INPUT, ConsoleFlags, JsonFlags, OutputFlags, flag, same, switch
from omnidrop_cli.commands._request import STDIN
from omnidrop_cli.commands.cache import CleanFlags
from omnidrop_cli.config import DisplayConfig
from omnidrop_cli.errors import OmnidropError, UsageError
from omnidrop_cli.report.text import clean as cleaned
from omnidrop_cli.report.text import one_line

if TYPE_CHECKING:
    from omnidrop_cli.history import HistoryEntry
    from omnidrop_cli.outputs import Report
    from omnidrop_cli.report.columns import DataTable

SHORT = 32
"""Characters of a question or an answer in the list."""

Number = Annotated[
    int, typer.Argument(metavar="ID", help="Number of the answer, as history ls shows it.", min=1, autocompletion=COMPLETIONS["answers"])
]


@dataclass(frozen=True, slots=True)
class ListFlags:
    """Which answers are listed."""

    PANEL: ClassVar[str] = INPUT

    search: str = flag("", "Only answers whose clip, question or answer contains TEXT.", short="s", metavar="TEXT")
    last: int = flag(20, "At most N answers, the latest ones.", low=1, short="n", metavar="N")


@dataclass(frozen=True, slots=True)
class AgainFlags:
    """How an answer is asked again."""

    PANEL: ClassVar[str] = INPUT

    compare: bool = switch("Answer without pruning too, and show both runs side by side.")


@dataclass(frozen=True, slots=True)
class ForgetFlags:
    """Which answers are forgotten, and whether to ask."""

    PANEL: ClassVar[str] = INPUT

    older_than: float | None = same(CleanFlags, "older_than", help="Only answers older than this: 30d, 2w, 12h or 45m.")
    yes: bool = switch("Do not ask.", short="y")


def ls(listing: ListFlags, result: JsonFlags, console: ConsoleFlags) -> None:
    """List the answers that were kept, the latest last. `--history` keeps an answer; history = true in a settings file keeps all."""
    found = history.entries(search=listing.search, last=listing.last)
    if result.as_json:
        emit(dump({"schema": 1, "kind": "history", "answers": [_plain(entry) for entry in found]}))
    elif found:
        Console(console).print(_table(found))
    else:
        Console(console).say("nothing fits" if listing.search else "nothing was kept; --history keeps an answer")


def show(number: Number, result: JsonFlags, console: ConsoleFlags) -> None:
    """Print an answer on stdout, and what was asked on stderr; --json prints the whole report."""
    entry = history.entry(number)
    if result.as_json:
        emit(dump(entry.report))
        return
    from omnidrop_cli.report.tables import SummaryLine

    screen, report = Console(console), _report(entry)
    screen.say(f"{_date(entry)} {', '.join(entry.all_media)}")
    screen.say(f"question: {entry.question}")
    emit(cleaned(entry.answer))
    screen.say(f"{report.model.name}, {report.method}")
    screen.show(SummaryLine(report))


def rerun(number: Number, again: AgainFlags, display: DisplayConfig, output: OutputFlags, console: ConsoleFlags) -> None:
    """Ask again: the same clip, question, model, pruning and settings."""
    from omnidrop_cli.commands.ask import AskFlags, answer

    entry = history.entry(number)
    if STDIN in entry.all_media:
        raise UsageError(f"the clip of answer {number} came from stdin and was not kept", "ask again with omnidrop ask")
    if entry.earlier_turns:
        Console(console).warn(f"this was asked in a chat after {entry.earlier_turns} other questions, which the model does not see now")
    answer(replace(_report(entry).job, media=entry.media), AskFlags(compare=again.compare), display, output, console)


def clean(
    forgetting: ForgetFlags,
    console: ConsoleFlags,
    numbers: Annotated[
        list[int] | None,
        typer.Argument(metavar="ID...", help="Numbers of answers.", show_default=False, autocompletion=COMPLETIONS["answers"]),
    ] = None,
) -> None:
    """Forget answers: those with the given IDs, or all."""
    found = history.entries()
    if numbers:
        found = [history.entry(number) for number in dict.fromkeys(numbers)]
    if forgetting.older_than is not None:
        found = [entry for entry in found if time.time() - entry.asked_at >= forgetting.older_than]
    screen = Console(console)
    if not found:
        screen.say("nothing to forget")
        return
    what = f"{len(found)} answer{'s' if len(found) > 1 else ''}"
    if not forgetting.yes:
        if not sys.stdin.isatty():
            raise UsageError(f"this would forget {what}", "--yes does it without asking")
        typer.confirm(f"Forget {what}?", abort=True, err=True)
    history.remove([entry.id for entry in found])
    screen.say(f"{what} forgotten")


COMMANDS = (
    ("ls", ls, ("omnidrop history ls", "omnidrop history ls --search rocket -n 5")),
    ("show", show, ("omnidrop history show 1", "omnidrop history show 1 --json")),
    ("rerun", rerun, ("omnidrop history rerun 1", "omnidrop history rerun 1 --compare")),
    ("clean", clean, ("omnidrop history clean --older-than 30d --yes",)),
)
"""Names, functions and examples of the group's commands."""


def _report(entry: HistoryEntry) -> Report:
    from omnidrop_cli.report.json import from_dict

    try:
        return from_dict(entry.report)
    except ValueError as error:
        raise OmnidropError(f"answer {entry.id} cannot be read: {error}", f"omnidrop history clean {entry.id} forgets it") from error


def _plain(entry: HistoryEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "asked_at": datetime.fromtimestamp(entry.asked_at).astimezone().isoformat(timespec="seconds"),
        "media": entry.media,
        "more_media": list(entry.all_media[1:]),
        "question": entry.question,
        "answer": entry.answer,
        "earlier_turns": entry.earlier_turns,
    }


def _date(entry: HistoryEntry) -> str:
    return f"{datetime.fromtimestamp(entry.asked_at):%Y-%m-%d %H:%M}"


def _table(found: list[HistoryEntry]) -> DataTable:
    from omnidrop_cli.report.columns import Column, DataTable

    columns = (Column("id"), Column("asked", 2, right=False), Column("clip", 1, right=False), Column("question", right=False))
    rows = ((str(entry.id), _date(entry), _short(_names(entry), 24), _short(entry.question), _short(entry.answer)) for entry in found)
    return DataTable((*columns, Column("answer", right=False)), tuple(rows))


def _names(entry: HistoryEntry) -> str:
    """The first clip's name, and how many more there are."""
    first, *more = entry.all_media
    return f"{_name(first)} +{len(more)}" if more else _name(first)


def _name(media: str) -> str:
    return media.rstrip("/").replace("\\", "/").rpartition("/")[2] or media


def _short(text: str, width: int = SHORT) -> str:
    text = one_line(text)
    return text if len(text) <= width else f"{text[: width - 3]}..."
