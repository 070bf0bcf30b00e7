"""`omnidrop methods`: the pruning methods, their options and presets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omnidrop_cli.commands._complete import COMPLETIONS
from omnidrop_cli.commands._console import Console, dump, emit
from omnidrop_cli.commands._options import ConsoleFlags, JsonFlags

if TYPE_CHECKING:
    from rich.text import Text

EXAMPLES = (
    "omnidrop methods",
    "omnidrop methods omnidrop",
    "omnidrop methods seats+omnidrop",
    'omnidrop ask talk.mp4 "What is said?" --method random --keep 0.5',
)


def methods(
    result: JsonFlags,
    console: ConsoleFlags,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="METHOD",
            help="Show this method with its options; A+B shows two combined.",
            show_default=False,
            autocompletion=COMPLETIONS["methods"],
        ),
    ] = None,
) -> None:
    """List the pruning methods; with a name, its options and presets."""
    from omnidrop_cli.prune.methods import describe, describe_all
    from omnidrop_cli.report.columns import facts

    screen = Console(console)
    described = describe_all(screen.warn) if name is None else [describe(name)]
    if result.as_json:
        emit(dump({"schema": 1, "methods": described}))
    elif name is None:
        screen.print(facts((method["name"], _summary(method)) for method in described))
    else:
        screen.print(_summary(described[0]), facts(_details(described[0])))


def _summary(method: Mapping[str, Any]) -> Text:
    from rich.text import Text

    presets = ", ".join(method["presets"])
    return Text("; ".join(filter(None, (method["summary"], method["paper"], f"presets {presets}" if presets else ""))))


def _details(method: Mapping[str, Any]) -> Iterator[tuple[str, Text]]:
    from rich.text import Text

    for option in method["options"]:
        default = "automatic" if option["default"] is None else str(option["default"]).lower()
        yield option["name"], Text(f"{option['help']} [{option['type']}, default {default}]".lstrip())
    for preset, values in method["presets"].items():
        yield preset, Text("preset: " + ", ".join(f"{key}={value}" for key, value in values.items()))
