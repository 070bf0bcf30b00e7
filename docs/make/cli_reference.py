"""docs/user/cli.md: every command with its arguments, options, defaults and variables, read from the Typer app."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import typer

from omnidrop_cli.commands._options import default_text
from omnidrop_cli.options import Option

INTRO = """# Commands

This page is generated from the program by `python -m docs.make`. An option with a variable can also be set in a settings
file under its long name. The order is flag, `OMNIDROP_*`, profile, `./omnidrop.toml`, the user's `config.toml`, default
([where things live](where-things-live.md)).

stdout carries the answer, or one JSON document. Everything else goes to stderr. Exit codes: 0 success, 1 the run failed, 2 the command was
wrong, 3 a batch finished and some items failed, 130 interrupted.
"""

_REASONS = (
    (r"https?://", "needs the network"),
    (r"--devices 0|\b7b --quant|random:7b", "needs a GPU"),
    (r"\b[37](b|B)\b(?!@)|worldsense", "needs the model hub"),
    (r"^omnidrop (bench|evaluate nano)", "takes minutes"),
    (r"^omnidrop chat [^<]*$", "interactive"),
)
"""Patterns of examples that no test runs, and why."""


def page() -> str:
    """The whole page in Markdown."""
    from omnidrop_cli.cli import build

    root: Any = typer.main.get_command(build())
    parts = [INTRO, *_commands(root, "omnidrop")]
    return "\n".join(parts).rstrip() + "\n"


def _commands(group: Any, path: str) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        else:
            yield from _command(command, f"{path} {name}")


def _command(command: Any, path: str) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden and p.name != "help"]
    usage = " ".join([path, *(_name(a) if a.required else f"[{_name(a)}]" for a in arguments)])
    yield f"## {path.removeprefix('omnidrop ')}\n\n```\n{usage} [OPTIONS]\n```\n"
    text, _, examples = inspect.cleandoc(command.help or "").partition("[bold]Examples[/]")
    yield _plain(text).strip() + "\n"
    if examples:
        for title, group in groupby(examples.strip().replace("\\[", "[").splitlines(), _title):
            yield f"```console{title}\n" + "\n".join(group) + "\n```\n"
    if arguments or options:
        yield "| | default | |\n|---|---|---|"
        for parameter in [*arguments, *options]:
            yield _row(parameter, getattr(command.callback, "options", {}).get(parameter.name))
        yield ""


def _title(example: str) -> str:
    """The title of a block whose commands no test runs (docs/develop/contributing.md)."""
    reason = next((reason for pattern, reason in _REASONS if re.search(pattern, example)), None)
    return f' title="{reason}"' if reason else ""


def _row(parameter: Any, declared: Option | None) -> str:
    if parameter.param_type_name == "argument":
        name = f"`{_name(parameter)}`"
    else:
        name = ", ".join(f"`{o}`" for o in [*parameter.opts, *parameter.secondary_opts])
    text = _plain((parameter.help or "").partition(" [dim]")[0]).replace("\\[", "[").replace("|", "\\|")
    default = default_text(declared) if declared is not None else ""
    variable = f" (`{declared.variable}`)" if declared is not None and declared.settable else ""
    return f"| {name} | {default} | {text}{variable} |"


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _plain(text: str) -> str:
    """Rich markup and wrapping taken away; blank lines stay."""
    text = re.sub(r"\[/?(?:bold|italic|dim)?\]", "", text)
    return "\n\n".join(" ".join(block.split()) if not block.startswith("omnidrop") else block for block in text.split("\n\n"))
