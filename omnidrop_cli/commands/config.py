"""`omnidrop config`: where the settings files are, and the value of every option that they and variables may set."""

from __future__ import annotations

from typing import Any

from omnidrop_cli import settings
from omnidrop_cli.commands._console import Console, dump, emit
from omnidrop_cli.commands._options import ConsoleFlags, JsonFlags, default_text
from omnidrop_cli.report.text import one_line


def show(result: JsonFlags, console: ConsoleFlags) -> None:
    """List every option that a variable or a settings file may set, with its value and where that comes from."""
    from rich.text import Text

    from omnidrop_cli.report.columns import facts

    found = settings.effective(console.profile)
    if result.as_json:
        values = {name: {"value": one.value, "origin": one.origin} for name, one in found.items()}
        emit(dump({"schema": 1, "kind": "settings", "settings": values}))
        return
    Console(console).print(facts((name, Text(one_line(_shown(name, one)))) for name, one in found.items()))


def path(console: ConsoleFlags) -> None:
    """Print where settings files are looked for, the strongest first, and the profiles they define."""
    existing = settings.files()
    emit("\n".join(str(place) for place in settings.candidates()))
    screen = Console(console)
    for place in settings.candidates():
        if place not in existing:
            screen.say(f"{place} does not exist")
    for name, places in settings.profiles().items():
        screen.say(f"profile {name}: {', '.join(places)}")


def _shown(name: str, setting: settings.Setting) -> str:
    if setting.origin == "default":
        return default_text(settings.KEYS[name]) or "not set"
    value: Any = setting.value
    return f"{str(value).lower() if isinstance(value, bool) else value} (from {setting.origin})"


COMMANDS = (
    ("list", show, ("omnidrop config list",)),
    ("path", path, ("omnidrop config path",)),
)
"""Names, functions and examples of the group's commands."""
