"""`omnidrop cache`: what omnidrop keeps on this disk, by kind, and removing it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from omnidrop_cli import cache
from omnidrop_cli.commands._complete import words_of
from omnidrop_cli.commands._console import Console, dump, emit
from omnidrop_cli.commands._options import INPUT, ConsoleFlags, JsonFlags, flag, switch
from omnidrop_cli.errors import EXIT_PARTIAL, OmnidropError, UsageError
from omnidrop_cli.options import days
from omnidrop_cli.report.text import one_line
from omnidrop_cli.suggest import did_you_mean

if TYPE_CHECKING:
    from omnidrop_cli.report.columns import DataTable

SPARE = tuple(name for name, kind in cache.KINDS.items() if kind.spare)

Kinds = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KIND...",
        help=f"Any of {', '.join(cache.KINDS)}.",
        show_default=False,
        autocompletion=words_of(tuple(cache.KINDS)),
    ),
]


@dataclass(frozen=True, slots=True)
class CleanFlags:
    """What is removed, and whether to ask."""

    PANEL: ClassVar[str] = INPUT

    older_than: float | None = flag(
        None,
        "Only what was not used for this long: 30d, 2w, 12h or 45m.",
        read=days,
        noun="an age: days (30d), weeks (2w), hours (12h) or minutes (45m)",
        metavar="AGE",
    )
    dry_run: bool = switch("Show what would be removed; remove nothing.")
    yes: bool = switch("Do not ask.", short="y")


def ls(result: JsonFlags, console: ConsoleFlags, kinds: Kinds = None) -> None:
    """List what omnidrop keeps on this disk: how many items of each kind, how large, and when the oldest was last used.

    With a KIND: every item of it.
    """
    found = cache.items(_known(kinds) or (*cache.KINDS,))
    if result.as_json:
        items = [_plain(item) for item in found]
        folders = {name: str(kind.folder()) for name, kind in cache.KINDS.items()}
        emit(dump({"schema": 1, "kind": "cache", "folders": folders, "items": items}))
        return
    screen = Console(console)
    if not kinds:
        screen.print(_kinds(found))
    elif found:
        screen.print(_items(found))
    screen.say(f"{_size(found)} in all")


def clean(cleaning: CleanFlags, console: ConsoleFlags, kinds: Kinds = None) -> None:
    """Remove what omnidrop keeps on this disk. Without a KIND: clips and features, which are made again when they are needed.

    What a running process uses stays. Files that omnidrop did not make stay too.
    """
    now = time.time()
    chosen = cache.items(_known(kinds) or SPARE)
    if cleaning.older_than is not None:
        chosen = [item for item in chosen if now - item.used_at >= cleaning.older_than]
    screen = Console(console)
    if not chosen:
        screen.say("nothing to remove")
        return
    if cleaning.dry_run or not cleaning.yes:
        screen.show(_items(chosen))
    what = f"{len(chosen)} item{'s' if len(chosen) > 1 else ''}, {_size(chosen)}"
    if cleaning.dry_run:
        screen.say(f"{what} would be removed")
        return
    if not cleaning.yes:
        if not sys.stdin.isatty():
            raise UsageError(f"this would delete {what}", "--yes does it without asking, --dry-run shows it")
        typer.confirm(f"Delete {what}?", abort=True, err=True)
    _remove(chosen, screen)


COMMANDS = (
    ("ls", ls, ("omnidrop cache ls", "omnidrop cache ls clips")),
    ("clean", clean, ("omnidrop cache clean --older-than 30d --dry-run", "omnidrop cache clean clips features --yes")),
)
"""Names, functions and examples of the group's commands."""


def _known(kinds: Sequence[str] | None) -> Sequence[str]:
    """The kinds, each once. Raises `UsageError` for one that does not exist."""
    for kind in kinds or ():
        if kind not in cache.KINDS:
            raise UsageError(f"there is no kind '{one_line(kind)}'", did_you_mean(kind, cache.KINDS, f"one of {', '.join(cache.KINDS)}"))
    return tuple(dict.fromkeys(kinds or ()))


def _remove(chosen: Sequence[cache.CacheItem], screen: Console) -> None:
    freed, failed = [], 0
    for item in chosen:
        try:
            if cache.remove(item):
                freed.append(item)
            else:
                screen.say(f"{one_line(item.name)} stays: a running process uses it")
        except OmnidropError as error:
            failed += 1
            screen.say(f"{error.message}; {error.hint}", "red", always=True)
    screen.say(f"{len(freed)} removed, {_size(freed)} freed")
    if failed:
        raise typer.Exit(EXIT_PARTIAL)


def _size(items: Sequence[cache.CacheItem]) -> str:
    from omnidrop_cli.report.numbers import megabytes

    return megabytes(sum(item.size_bytes for item in items) / 1e6)


def _age(item: cache.CacheItem) -> str:
    from omnidrop_cli.report.numbers import age

    return age(time.time() - item.used_at)


def _plain(item: cache.CacheItem) -> dict[str, Any]:
    return {
        "kind": item.kind,
        "name": item.name,
        "path": str(item.path),
        "size_bytes": item.size_bytes,
        "used_at": round(item.used_at),
        "revision": item.revision,
    }


def _kinds(found: Sequence[cache.CacheItem]) -> DataTable:
    from omnidrop_cli.report.columns import Column, DataTable

    rows = []
    for name, kind in cache.KINDS.items():
        of_kind = [item for item in found if item.kind == name]
        rows.append((name, str(len(of_kind)), _size(of_kind), _age(of_kind[0]) if of_kind else "", kind.about))
    columns = (Column("kind", right=False), Column("items"), Column("size"), Column("unused for", 1), Column("what", 2, right=False))
    return DataTable(columns, tuple(rows))


def _items(found: Sequence[cache.CacheItem]) -> DataTable:
    from omnidrop_cli.report.columns import Column, DataTable

    columns = (Column("kind", 1, right=False), Column("size"), Column("unused for"), Column("what", right=False))
    rows = tuple((item.kind, _size([item]), _age(item), one_line(_named(item))) for item in found)
    return DataTable(columns, rows)


def _named(item: cache.CacheItem) -> str:
    return f"{item.name} {item.revision[:7]}" if item.revision else item.name
