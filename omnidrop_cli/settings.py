"""Defaults a user may change, and where each effective value came from.

Precedence: flag > `OMNIDROP_*` > `./omnidrop.toml` > the user's `omnidrop/config.toml` > default.

Knows: every settable name with its type and bounds, the two files and the environment variables. Does not know flags (the
commands hand `defaults` to Typer, which lets flags and variables win) or what a value does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnidrop_cli import paths
from omnidrop_cli.config import GenerationConfig, MediaConfig, ModelConfig, PruningConfig
from omnidrop_cli.errors import UsageError
from omnidrop_cli.suggest import did_you_mean

Value = str | int | float | bool | None

PROJECT_FILE = "omnidrop.toml"


@dataclass(frozen=True, slots=True)
class Key:
    """One settable name: its type, its default, and its bounds (`low`, `high` inclusive; `above` exclusive; or `words`)."""

    kind: type
    default: Value
    low: float | None = None
    high: float | None = None
    above: float | None = None
    words: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """What a value may be, as the end of a sentence."""
        if self.words:
            return f"one of {', '.join(self.words)}"
        noun = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}[self.kind]
        bounds = [f"above {self.above:g}" if self.above is not None else "", f"at least {self.low:g}" if self.low is not None else ""]
        bounds.append(f"at most {self.high:g}" if self.high is not None else "")
        return f"{noun} {' and '.join(filter(None, bounds))}".rstrip()

    def holds(self, value: Any) -> bool:
        """Whether `value` has this key's type and lies within its bounds. A whole number will do for a number."""
        if self.words:
            return value in self.words
        if self.kind in (str, bool) or isinstance(value, bool):
            return isinstance(value, self.kind)
        if not isinstance(value, (int, float) if self.kind is float else int):
            return False
        above, low, high = (bound if bound is not None else other for bound, other in self._bounds())
        return above < value and low <= value <= high

    def _bounds(self) -> tuple[tuple[float | None, float], ...]:
        infinity = float("inf")
        return (self.above, -infinity), (self.low, -infinity), (self.high, infinity)


_MEDIA, _MODEL, _METHOD, _GENERATION = MediaConfig(), ModelConfig(), PruningConfig(), GenerationConfig()

KEYS: Mapping[str, Key] = {
    "method": Key(str, _METHOD.name),
    "keep": Key(float, _METHOD.keep, above=0, high=1),
    "preset": Key(str, _METHOD.preset),
    "seed": Key(int, _METHOD.seed, low=0, high=2**63 - 1),
    "model": Key(str, _MODEL.name),
    "quant": Key(str, _MODEL.quant, words=("auto", "nf4", "int8", "none")),
    "device": Key(str, _MODEL.device),
    "dtype": Key(str, _MODEL.dtype, words=("auto", "bfloat16", "float16", "float32")),
    "attn": Key(str, _MODEL.attention, words=("sdpa", "flash_attention_2")),
    "revision": Key(str, _MODEL.revision),
    "offline": Key(bool, _MODEL.offline),
    "feature-cache": Key(bool, _MODEL.feature_cache),
    "graph": Key(bool, _MODEL.graph),
    "fps": Key(float, _MEDIA.fps, above=0, high=120),
    "min-frames": Key(int, _MEDIA.min_frames, low=2),
    "max-frames": Key(int, _MEDIA.max_frames, low=2),
    "min-pixels": Key(int, _MEDIA.min_pixels, low=28 * 28),
    "max-pixels": Key(int, _MEDIA.max_pixels, low=28 * 28),
    "same-within": Key(float, _MEDIA.same_within, low=0, high=255),
    "max-new-tokens": Key(int, _GENERATION.max_new_tokens, low=1),
    "temperature": Key(float, _GENERATION.temperature, low=0, high=5),
    "top-p": Key(float, _GENERATION.top_p, above=0, high=1),
    "repetition-penalty": Key(float, _GENERATION.repetition_penalty, above=0, high=5),
    "system": Key(str, None),
    "stream": Key(bool, True),
    "table": Key(bool, True),
}
"""Every settable name, spelled as its flag."""


@dataclass(frozen=True, slots=True)
class Setting:
    """An effective value and where it came from: a variable's name, a file's path, or "default"."""

    value: Value
    origin: str


def variable(name: str) -> str:
    """The environment variable behind a name: "max-frames" -> "OMNIDROP_MAX_FRAMES"."""
    return "OMNIDROP_" + name.replace("-", "_").upper()


def check(name: str, value: Any, origin: str) -> Value:
    """`value` itself. Raises `UsageError` that names `origin` (a flag, a variable, a file) where it is none the key takes."""
    key = KEYS[name]
    if value is None or key.holds(value):
        return float(value) if key.kind is float and value is not None else value
    shown = f"'{value}'" if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value).lower()
    raise UsageError(f"{origin} is {shown}; it must be {key.allowed}", _hint(name, value))


def files() -> tuple[Path, ...]:
    """The settings files that exist, the strongest first: `./omnidrop.toml`, then the user's."""
    return tuple(path for path in (Path(PROJECT_FILE), paths.config_file()) if path.is_file())


def from_files() -> dict[str, Setting]:
    """What the files say. Raises `UsageError` that names the file and the key for an unknown key or a value out of range."""
    found: dict[str, Setting] = {}
    for path in reversed(files()):
        read = {name: Setting(value, str(path)) for name, value in _read(path).items()}
        # keep and preset are two ways to say one thing: the stronger file's choice replaces the weaker one's.
        if {"keep", "preset"} & read.keys():
            found.pop("keep", None)
            found.pop("preset", None)
        found |= read
    return found


def defaults() -> dict[str, Value]:
    """The files' values by parameter name ("max_frames"), for Typer's default map."""
    return {name.replace("-", "_"): setting.value for name, setting in from_files().items()}


def effective() -> dict[str, Setting]:
    """Every name with its value when no flag is given, and where that came from. Values from the environment stay as written."""
    read = from_files()
    found: dict[str, Setting] = {}
    for name, key in KEYS.items():
        given = os.environ.get(variable(name))
        found[name] = Setting(given, variable(name)) if given else read.get(name, Setting(key.default, "default"))
    return found


def _read(path: Path) -> dict[str, Value]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise UsageError(f"{path} cannot be read: it is nested too deeply", "it must be TOML, as in: keep = 0.3") from error
    except (OSError, ValueError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise UsageError(f"{path} cannot be read: {error}", "it must be TOML, as in: keep = 0.3") from error
    values: dict[str, Value] = {}
    for written, value in table.items():
        name = written.replace("_", "-")
        if name not in KEYS:
            raise UsageError(f"{path}: unknown key '{written}'", did_you_mean(name, KEYS, f"the keys: {', '.join(KEYS)}"))
        values[name] = check(name, value, f"{path}: {written}")
    return values


def _hint(name: str, value: Any) -> str | None:
    if name == "keep" and isinstance(value, int | float) and 5 <= value <= 100:
        return f"it is a fraction, not a percentage: {value / 100:g} keeps {value:g} %"
    if name == "keep":
        return "it is the share kept, for example 0.3; the whole clip is --method none"
    key = KEYS[name]
    default = str(key.default).lower() if isinstance(key.default, bool) else key.default
    return did_you_mean(str(value), key.words, f"the default is {default}" if default is not None else f"it is {key.allowed}")
