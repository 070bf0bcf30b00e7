"""The `omnidrop` program: its commands, assembled.

Knows: which commands there are. Does not know what they do (`commands/`) or how the program ends (`commands/_exit.py`). Imports
nothing heavy, so help and mistakes are answered at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NoReturn

import typer

from omnidrop_cli import __version__, settings
from omnidrop_cli.commands import ask, batch, bench, chat, doctor, evaluate, inspect, methods, models
from omnidrop_cli.commands._app import FirstByDefault, grouped
from omnidrop_cli.commands._exit import end
from omnidrop_cli.errors import UsageError

COMMANDS: tuple[tuple[Callable[..., None], Sequence[str]], ...] = (
    (ask.ask, ask.EXAMPLES),
    (batch.batch, batch.EXAMPLES),
    (chat.chat, chat.EXAMPLES),
    (inspect.inspect, inspect.EXAMPLES),
    (methods.methods, methods.EXAMPLES),
    (evaluate.evaluate, evaluate.EXAMPLES),
    (doctor.doctor, doctor.EXAMPLES),
)
"""Every command and the examples at the end of its help."""

BENCH_HELP = "Measure time and memory on this machine. omnidrop bench [MEDIA] is bench prefill."


def build() -> typer.Typer:
    """The Typer app, with the settings files' values as defaults."""
    defaults = _defaults()
    app = typer.Typer(
        name="omnidrop",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={
            "help_option_names": ["-h", "--help"],
            "default_map": {
                "models": dict.fromkeys((name for name, *_ in models.COMMANDS), defaults),
                "bench": dict.fromkeys((name for name, *_ in bench.COMMANDS), defaults),
            }
            | {run.__name__: defaults for run, _ in COMMANDS},
        },
    )
    app.callback()(_top)
    for run, examples in COMMANDS:
        app.command(epilog=_epilog(examples), no_args_is_help="media" in run.__annotations__)(grouped(run))
    measures = typer.Typer(help=BENCH_HELP, no_args_is_help=True, cls=FirstByDefault)
    for name, run, examples in bench.COMMANDS:
        measures.command(name, epilog=_epilog(examples), no_args_is_help="clips" in run.__annotations__)(grouped(run))
    app.add_typer(measures, name="bench")
    group = typer.Typer(help="Models on this disk: list, fetch, quantise, remove.", no_args_is_help=True)
    for name, run, examples in models.COMMANDS:
        group.command(name, epilog=_epilog(examples))(grouped(run))
    app.add_typer(group, name="models")
    return app


def main() -> NoReturn:
    """Console entry point: runs the command line and leaves with its exit code."""
    end(build(), sys.argv[1:])


def _defaults() -> dict[str, Any]:
    """Defaults by parameter name. Beside a broken file help still works: it is complained of when an option wants its value."""
    try:
        return dict(settings.defaults())
    except UsageError as error:
        problem = error

    def complain() -> NoReturn:
        raise problem

    return {name.replace("-", "_"): complain for name in settings.KEYS}


def _epilog(examples: Sequence[str]) -> str:
    return "\n\n".join(("[bold]Examples[/]", *examples))


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"omnidrop {__version__}\n")
        raise typer.Exit


def _top(
    version: Annotated[bool, typer.Option("--version", "-V", help="Show the version.", callback=_version, is_eager=True)] = False,
) -> None:
    """Ask questions about video and audio clips, answered on this machine from pictures and sound.

    Audio and video tokens that the question does not need are dropped inside the model, layer by layer, which saves time and memory.
    Every option can be set by a variable, as OMNIDROP_KEEP for --keep, or in omnidrop.toml; omnidrop doctor shows what holds.
    """
