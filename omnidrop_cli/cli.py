"""The `omnidrop` program: its commands, assembled. Imports nothing heavy, so help and mistakes are answered at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NoReturn

import typer

from omnidrop_cli import __version__
from omnidrop_cli.commands import ask, batch, bench, cache, chat, config, doctor, evaluate, explain, history, inspect, methods, models
from omnidrop_cli.commands._app import CommandGroup, FirstByDefault, add
from omnidrop_cli.commands._exit import end

COMMANDS: tuple[tuple[Callable[..., None], Sequence[str]], ...] = (
    (ask.ask, ask.EXAMPLES),
    (batch.batch, batch.EXAMPLES),
    (chat.chat, chat.EXAMPLES),
    (explain.explain, explain.EXAMPLES),
    (inspect.inspect, inspect.EXAMPLES),
    (methods.methods, methods.EXAMPLES),
    (evaluate.evaluate, evaluate.EXAMPLES),
    (doctor.doctor, doctor.EXAMPLES),
)
"""Every command and the examples at the end of its help."""

GROUPS = (
    ("bench", "Measure time and memory on this machine. omnidrop bench \\[MEDIA] is bench prefill.", bench.COMMANDS),
    ("models", "Models on this disk: list, download, quantize, remove.", models.COMMANDS),
    ("cache", "What omnidrop keeps on this disk: list, remove.", cache.COMMANDS),
    ("history", "Questions and answers that were kept with --history.", history.COMMANDS),
    ("config", "Settings: where the files are, and what holds.", config.COMMANDS),
)
"""Groups of commands; `bench` runs its first where none is named."""


def build() -> typer.Typer:
    """The Typer app."""
    app = typer.Typer(
        name="omnidrop",
        cls=CommandGroup,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_top)
    for run, examples in COMMANDS:
        add(app, run.__name__, run, examples, help_without_arguments="media" in run.__annotations__)
    for name, text, commands in GROUPS:
        group = typer.Typer(help=text, no_args_is_help=True, cls=FirstByDefault if name == "bench" else CommandGroup)
        for command, run, examples in commands:
            add(group, command, run, examples, help_without_arguments="clips" in run.__annotations__)
        app.add_typer(group, name=name)
    app.command("help")(_help)
    return app


def _help(context: typer.Context, words: Annotated[list[str] | None, typer.Argument(metavar="COMMAND")] = None) -> None:
    """Show the help of a command, as COMMAND --help does."""
    root: Any = context.find_root().command
    root(["--help"] if not words else [*words, "--help"], prog_name="omnidrop", standalone_mode=False)


def main() -> NoReturn:
    """Console entry point: runs the command line and leaves with its exit code."""
    end(build(), sys.argv[1:])


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"omnidrop {__version__}\n")
        raise typer.Exit


def _top(
    version: Annotated[
        bool | None, typer.Option("--version", "-V", help="Print the version.", metavar="", callback=_version, is_eager=True)
    ] = None,
) -> None:
    """Ask questions about video and audio clips. They are answered on this machine, from frames and sound.

    Audio and video tokens that the question does not need are dropped inside the model, layer by layer, which saves time and memory.
    Options of the panels Media, Pruning, Model and Generation can also be set by a variable (OMNIDROP_KEEP for --keep) or in a file;
    `omnidrop config list` shows each of them.
    """
