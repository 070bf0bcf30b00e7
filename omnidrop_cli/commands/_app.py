"""The Typer classes of the program's commands: usage and examples in the help, former flags, groups with a first command."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from omnidrop_cli.commands._deprecation import deprecated
from omnidrop_cli.commands._options import OLD_FLAGS, grouped
from omnidrop_cli.commands._words import is_clip
from omnidrop_cli.errors import UsageError


class Command(TyperCommand):
    """A command that shows its arguments first, accepts former flags with one line, and keeps what was asked for an error object."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        arguments = [parameter for parameter in self.get_params(ctx) if parameter.param_type_name == "argument"]
        return [*(_usage(argument) for argument in arguments), "[OPTIONS]"]

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {spelled for parameter in self.get_params(ctx) for spelled in (*parameter.opts, *parameter.secondary_opts)}
        return super().parse_args(ctx, list(_current(args, known)))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            error.__dict__["asked"] = _asked(ctx.params)
            raise


class CommandGroup(TyperGroup):
    """A group of commands. A clip in a command's place is answered with the command that was meant."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands and is_clip(args[0]) and not os.path.isdir(args[0]):
            raise UsageError(f"{args[0]} is no command", f'ask about it: omnidrop ask {shlex.quote(args[0])} "What is said?"')
        return super().resolve_command(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))


class FirstByDefault(CommandGroup):
    """A group that takes what is no command's name for arguments of its first command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [next(iter(self.commands)), *args]
        return super().parse_args(ctx, args)


def add(
    app: typer.Typer, name: str, command: Callable[..., None], examples: Sequence[str], *, help_without_arguments: bool = False
) -> None:
    """Add `command` to `app`, its `examples` in the help below its description."""
    made = grouped(command)
    lines = "\n".join(line.replace("[", "\\[") for line in examples)
    text = (command.__doc__ or "").rstrip()
    app.command(
        name,
        cls=Command,
        help=f"{_cleaned(text)}\n\n[bold]Examples[/]\n\n{lines}" if examples else _cleaned(text),
        no_args_is_help=help_without_arguments,
    )(made)


def _without_types(parameters: list[Any]) -> list[Any]:
    """The parameters, showing no Python types in the help; --help itself stands with the last panel."""
    for parameter in parameters:
        if parameter.param_type_name == "argument":
            parameter.display_type_rich = lambda ctx: None
        elif getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    if len(parameters) > 1:
        parameters[-1].rich_help_panel = getattr(parameters[-2], "rich_help_panel", None)
    return parameters


def _cleaned(text: str) -> str:
    import inspect

    return "\n\n".join(" ".join(block.split()) for block in inspect.cleandoc(text).split("\n\n"))


def _asked(parameters: Mapping[str, Any]) -> tuple[list[str], str]:
    """Media and question of a command that failed; empty where it has none."""
    question = parameters.get("question") or parameters.get("text")
    words, media = [*(parameters.get("words") or ())], parameters.get("media") or ""
    if len(words) > 1 and not isinstance(question, str):
        question = words.pop()
    media = words or (media if isinstance(media, list | tuple) else [media])
    return [str(name) for name in media], question if isinstance(question, str) else ""


def _usage(argument: Any) -> str:
    name = str(argument.metavar or argument.name.upper())
    return name if argument.required else f"[{name}]"


def _current(args: Sequence[str], known: set[str]) -> Iterator[str]:
    """The words with former flags replaced, each with a line on stderr. `known` are the flags that the command has."""
    for number, word in enumerate(args):
        if word == "--":
            yield from args[number:]
            return
        name, equals, value = word.partition("=")
        current = OLD_FLAGS.get(name)
        if name == "-q" and "--quiet" in known and ("-q" not in known or _has_no_value(args[number + 1 :], known)):
            deprecated("-q is the question in every command; --quiet has no short form any more")
            yield "--quiet"
        elif name not in known and current in known:
            deprecated(f"{name} is deprecated; the flag is {current}")
            yield current + equals + value
        else:
            yield word


def _has_no_value(rest: Sequence[str], known: set[str]) -> bool:
    return not rest or rest[0].partition("=")[0] in known
