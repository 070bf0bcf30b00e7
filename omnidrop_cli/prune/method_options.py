"""Options of a pruning method: its dataclass fields, given as texts or values, described for `omnidrop methods`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omnidrop_cli.errors import UsageError
from omnidrop_cli.options import check_options, option, options_of

__all__ = ["KEEP_HELP", "canonical_name", "check", "describe", "keep_option", "option", "parse"]

KEEP_HELP = "fraction of audio and video tokens kept, averaged over the layers"

check = check_options
"""Called by a method's `__post_init__`."""


def keep_option() -> Any:
    """The `keep` field that every method with a budget has."""
    return option(None, KEEP_HELP, above=0, high=1)


def parse(cls: type, given: Mapping[str, object], method: str) -> dict[str, object]:
    """Values for the fields of `cls` from texts or values. Raises `UsageError` that names the option and what it takes."""
    known = options_of(cls)
    values: dict[str, object] = {}
    for name, value in given.items():
        key = canonical_name(cls, name)
        if key in ("keep", "seed"):
            raise UsageError(f"{key} is not a method option", f"use `{key}`")
        if key not in known:
            others = ", ".join(sorted(set(known) - {"keep", "seed"})) or "none"
            raise UsageError(f"method {method} has no option '{name}'", f"its options: {others}")
        one, named = known[key], f"option {key}"
        values[key] = one.parse(value, named) if isinstance(value, str) else one.check(value, named)
    return values


def canonical_name(cls: type, name: str) -> str:
    """The field of `cls` that `name` denotes: hyphens become underscores, and a former name becomes the present one."""
    key = name.replace("-", "_")
    return next((one.field for one in options_of(cls).values() if key in one.old), key)


def describe(cls: type) -> list[dict[str, object]]:
    """Name, type, default and help of every option, JSON-ready."""
    return [
        {"name": name, "type": "|".join(one.choices) or one.kind.__name__, "default": one.default, "help": one.help}
        for name, one in options_of(cls).items()
    ]
