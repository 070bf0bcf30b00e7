"""Values of options from environment variables and settings files, and where each came from.

Precedence: flag > `OMNIDROP_*` > the chosen profile > `./omnidrop.toml` > the user's `config.toml` > default. A profile is a table
`[profile.NAME]` in either file, chosen by `--profile NAME` or `OMNIDROP_PROFILE`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnidrop_cli import paths
from omnidrop_cli.config import (
    DisplayConfig,
    FetchConfig,
    GenerationConfig,
    MediaConfig,
    ModelConfig,
    PruningConfig,
    Request,
)
from omnidrop_cli.errors import UsageError
from omnidrop_cli.options import Option, options_of
from omnidrop_cli.suggest import did_you_mean

PROJECT_FILE = "omnidrop.toml"
PROFILE_VARIABLE = "OMNIDROP_PROFILE"


def _settable() -> dict[str, Option]:
    """Options by flag name. `seed` belongs to two configs; its declarations are equal."""
    groups = (PruningConfig, ModelConfig, MediaConfig, FetchConfig, GenerationConfig, DisplayConfig)
    found = {one.flag: one for group in groups for one in options_of(group).values() if one.settable}
    return found | {"system": options_of(Request)["system"]}


KEYS: Mapping[str, Option] = _settable()
"""Every option that variables and files may set, by its long name."""

_OLD = {old: name for name, one in KEYS.items() for old in one.old}


@dataclass(frozen=True, slots=True)
class Setting:
    """A value, where it came from (a variable's name, a file's path with its profile, or "default"), and a line to warn with."""

    value: Any
    origin: str
    notice: str | None = None


def files() -> tuple[Path, ...]:
    """The settings files that exist, the strongest first: `./omnidrop.toml`, then the user's."""
    return tuple(path for path in candidates() if path.is_file())


def candidates() -> tuple[Path, ...]:
    """Where settings files are looked for, the strongest first."""
    return Path(PROJECT_FILE), paths.config_file()


def profiles() -> dict[str, list[str]]:
    """Profile names, and the files that define each. Raises `UsageError` for a file that cannot be read."""
    found: dict[str, list[str]] = {}
    for path in files():
        for name in _tables(_toml(path), path):
            found.setdefault(name, []).append(str(path))
    return found


def from_files(profile: str | None = None) -> dict[str, Setting]:
    """Values in the files by flag name, `profile` included.

    Raises `UsageError` that names the file and the key for an unknown key or a value out of range, and for a profile that no file has.
    """
    documents = [(path, _toml(path)) for path in reversed(files())]
    layers = [_layer({key: value for key, value in table.items() if key != "profile"}, str(path)) for path, table in documents]
    if profile:
        chosen = [(path, tables[profile]) for path, table in documents if profile in (tables := _tables(table, path))]
        if not chosen:
            known = sorted({name for path, table in documents for name in _tables(table, path)})
            hint = f"the profiles: {', '.join(known)}" if known else f"add a table [profile.{profile}] to {paths.config_file()}"
            raise UsageError(f"there is no profile '{profile}'", hint)
        layers += [_layer(table, f"{path} [profile.{profile}]") for path, table in chosen]
    found: dict[str, Setting] = {}
    for layer in layers:
        # keep and preset set the same budget: the stronger layer's choice replaces the weaker one's.
        if {"keep", "preset"} & layer.keys():
            found.pop("keep", None)
            found.pop("preset", None)
        found |= layer
    return found


def from_variables() -> dict[str, Setting]:
    """Values in the environment by flag name, still as text. An empty variable counts as unset."""
    found: dict[str, Setting] = {}
    for name, one in KEYS.items():
        for spelled in (*one.old, name):
            variable = "OMNIDROP_" + spelled.replace("-", "_").upper()
            if given := os.environ.get(variable):
                notice = None if spelled == name else f"{variable} is deprecated; the variable is {one.variable}"
                found[name] = Setting(given, variable, notice)
    return found


def given(profile: str | None = None) -> dict[str, Setting]:
    """Every value that a variable or a file sets, by flag name; those of variables still as text. Raises as `from_files`."""
    written, set_here = from_files(profile or os.environ.get(PROFILE_VARIABLE)), from_variables()
    if {"keep", "preset"} & set_here.keys():
        written.pop("keep", None)
        written.pop("preset", None)
    return written | set_here


def effective(profile: str | None = None) -> dict[str, Setting]:
    """Every settable option with its value when no flag is given, and where that came from. Raises as `from_files`."""
    found = given(profile)
    return {name: found.get(name, Setting(one.default, "default")) for name, one in KEYS.items()}


def value_of(one: Option, setting: Setting) -> Any:
    """The checked value of a setting. Raises `UsageError` that names its variable or file."""
    if setting.origin == "default":
        return setting.value
    if isinstance(setting.value, str) and setting.origin.startswith("OMNIDROP_"):
        return one.parse(setting.value, setting.origin)
    return one.check(setting.value, setting.origin)


def _toml(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError:
        raise UsageError(f"{path} cannot be read: it is nested too deeply", "it must be TOML, as in: keep = 0.3") from None
    except (OSError, ValueError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise UsageError(f"{path} cannot be read: {error}", "it must be TOML, as in: keep = 0.3") from error


def _tables(document: Mapping[str, Any], path: Path) -> Mapping[str, Mapping[str, Any]]:
    """The profiles of a file."""
    found = document.get("profile", {})
    if not isinstance(found, Mapping) or not all(isinstance(table, Mapping) for table in found.values()):
        raise UsageError(f"{path}: profile is not a table of tables", "write [profile.work], and the profile's keys below it")
    return found


def _layer(table: Mapping[str, Any], place: str) -> dict[str, Setting]:
    """The keys of one table, checked. `place` is the file, and the profile if it is one's table."""
    values: dict[str, Setting] = {}
    for written, value in table.items():
        name = written.replace("_", "-")
        current = _OLD.get(name, name)
        if current not in KEYS:
            raise UsageError(f"{place}: unknown key '{written}'", did_you_mean(name, KEYS, f"the keys: {', '.join(KEYS)}"))
        notice = f"{place}: {written} is deprecated; the key is {current}" if current != name else None
        values[current] = Setting(KEYS[current].check(value, f"{place}: {written}"), place, notice)
    return values
