"""docs/user/cli.md: every command with its arguments, options, defaults and variables, read from the Typer app."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import typer

INTRO = """# Commands

This page is generated from the program by `python -m docs.make`. An option with a variable can also be set in `omnidrop.toml` under its
long name. The order is flag, `OMNIDROP_*`, `./omnidrop.toml`, the user's configuration file, default
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
    yield _plain(inspect.cleandoc(command.help or "")) + "\n"
    if command.epilog:
        examples = [line for line in _plain(command.epilog).splitlines() if line.startswith("omnidrop")]
        for title, group in groupby(examples, _title):
            yield f"```console{title}\n" + "\n".join(group) + "\n```\n"
    if arguments or options:
        yield "| | default | |\n|---|---|---|"
        for parameter in [*arguments, *options]:
            yield _row(parameter)
        yield ""


def _title(example: str) -> str:
    """The title of a block whose commands no test runs (docs/develop/contributing.md)."""
    reason = next((reason for pattern, reason in _REASONS if re.search(pattern, example)), None)
    return f' title="{reason}"' if reason else ""


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name, default = f"`{_name(parameter)}`", ""
    else:
        name = ", ".join(f"`{o}`" for o in [*parameter.opts, *parameter.secondary_opts])
        value = parameter.default() if callable(parameter.default) else parameter.default
        default = "" if value is None or value is False or value == () else f"`{str(value).lower() if value is True else value}`"
    text = _plain(parameter.help or "").replace("|", "\\|").replace("\n", " ")
    variable = f" (`{parameter.envvar}`)" if getattr(parameter, "envvar", None) else ""
    return f"| {name} | {default} | {text}{variable} |"


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _plain(text: str) -> str:
    """Rich markup and wrapping taken away; blank lines stay."""
    text = re.sub(r"\[/?(?:bold|italic|dim)?\]", "", text)
    return "\n\n".join(" ".join(block.split()) if not block.startswith("omnidrop") else block for block in text.split("\n\n"))
