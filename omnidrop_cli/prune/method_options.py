"""Options of a method: declared as dataclass fields, given as strings, described for people.

Knows: how a string becomes a field's value, its bounds, and the one-line errors. Does not know: any method, torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from omnidrop_cli.errors import UsageError

KEEP_HELP = "mean share of audio and video tokens left after each layer's cut"

_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


def option(
    default: Any, text: str, *, low: float | None = None, high: float | None = None, above: float | None = None, alias: str | None = None
) -> Any:
    """A dataclass field with a help line and bounds.

    Args:
        default: value when the option is not given.
        text: help line.
        low, high: inclusive bounds.
        above: exclusive lower bound.
        alias: former name, still accepted.
    """
    return dataclasses.field(default=default, metadata={"help": text, "low": low, "high": high, "above": above, "alias": alias})


def keep_option(default: float | None = None) -> Any:
    """The `keep` field that every method with a budget has."""
    return option(default, KEEP_HELP, above=0, high=1)


@cache  # annotations are strings, compiled anew at every call
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def check(method: Any) -> None:
    """Raise `UsageError` for a number out of its declared bounds or a word that is not among the choices."""
    hints = _hints(type(method))  # type: ignore[arg-type]  # every class is hashable
    for field in dataclasses.fields(method):
        value = getattr(method, field.name)
        words = _words(hints[field.name])
        if words and value not in words:
            raise _refusal(field.name, str(value), f"one of {', '.join(words)}")
        if value is not None and not isinstance(value, str) and not _within(value, field.metadata):
            raise _refusal(field.name, f"{value:g}", _range(field.metadata))


def parse(cls: type, given: Mapping[str, str], method: str) -> dict[str, object]:
    """Values for the fields of `cls` from strings. Raises `UsageError` that names the option and what it takes."""
    hints = _hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    values: dict[str, object] = {}
    for name, text in given.items():
        key = canonical_name(cls, name)
        if key in ("keep", "seed"):
            raise UsageError(f"{key} is not a method option", f"use --{key}")
        if key not in fields:
            known = ", ".join(sorted(set(fields) - {"keep", "seed"})) or "none"
            raise UsageError(f"method {method} has no option '{name}'", f"its options: {known}")
        values[key] = _value(key, text.strip(), hints[key])
    return values


def canonical_name(cls: type, name: str) -> str:
    """The field of `cls` that `name` denotes: hyphens become underscores, and a former name becomes the present one."""
    key = name.replace("-", "_")
    return next((field.name for field in dataclasses.fields(cls) if field.metadata.get("alias") == key), key)


def describe(cls: type) -> list[dict[str, object]]:
    """Name, type, default and help of every option, JSON-ready."""
    hints = _hints(cls)
    return [
        {
            "name": field.name,
            "type": "|".join(_words(hints[field.name])) or _kind(hints[field.name]).__name__,
            "default": field.default,
            "help": field.metadata.get("help", ""),
        }
        for field in dataclasses.fields(cls)
    ]


def _value(name: str, text: str, hint: Any) -> object:
    if NoneType in get_args(hint) and text.lower() in ("", "none", "auto"):
        return None
    words = _words(hint)
    if words:
        if text not in words:
            raise _refusal(name, text, f"one of {', '.join(words)}")
        return text
    kind = _kind(hint)
    if kind is bool:
        if text.lower() not in _TRUE | _FALSE:
            raise _refusal(name, text, "true or false")
        return text.lower() in _TRUE
    try:
        value: object = kind(text)
    except ValueError:
        raise _refusal(name, text, "a whole number" if kind is int else "a number") from None
    if value != value:  # NaN passes every bound
        raise _refusal(name, text, "a number")
    return value


def _words(hint: Any) -> tuple[str, ...]:
    return tuple(str(word) for word in get_args(hint)) if get_origin(hint) is Literal else ()


def _kind(hint: Any) -> Any:
    if get_origin(hint) in (Union, UnionType):
        return next(kind for kind in get_args(hint) if kind is not NoneType)
    return hint


def _within(value: float, bounds: Mapping[str, Any]) -> bool:
    low, high, above = bounds.get("low"), bounds.get("high"), bounds.get("above")
    return (low is None or value >= low) and (high is None or value <= high) and (above is None or value > above)


def _range(bounds: Mapping[str, Any]) -> str:
    low, high, above = bounds.get("low"), bounds.get("high"), bounds.get("above")
    parts = [f"at least {low:g}" if low is not None else "", f"above {above:g}" if above is not None else ""]
    return " and ".join(part for part in (*parts, f"at most {high:g}" if high is not None else "") if part)


def _refusal(name: str, given: str, allowed: str) -> UsageError:
    return UsageError(f"option {name} is {given}; it must be {allowed}", f"for example: {name}={_example(allowed)}")


def _example(allowed: str) -> str:
    return allowed.removeprefix("one of ").split(",")[0] if allowed.startswith("one of ") else "0.5"
