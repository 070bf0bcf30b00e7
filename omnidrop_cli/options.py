"""Options declared once, as fields of dataclasses: type, bounds, choices, help, and their names outside Python.

Input: a Python value, or text from a command line, an environment variable or a file. Output: the checked value, or a `UsageError`
that names the option in the way its caller wrote it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, Union, get_args, get_origin, get_type_hints

from omnidrop_cli.errors import UsageError
from omnidrop_cli.suggest import did_you_mean

if TYPE_CHECKING:
    from typing_extensions import Unpack

R = TypeVar("R")

KINDS = (str, int, float, bool, Path)
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_NOUNS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}


class Facts(TypedDict, total=False):
    """What a declaration may say about an option besides its type and default; the attributes of `Option` describe each."""

    low: float
    high: float
    above: float
    gap: float
    choices: tuple[str, ...]
    noun: str
    read: Callable[[str], Any]
    keyword: str
    flag: str
    short: str
    old: tuple[str, ...]
    metavar: str
    panel: str
    shown: str
    settable: bool
    negatable: bool
    separator: str
    complete: str
    words: bool


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `low` and `high` are inclusive, `above` is exclusive, `gap` is the least value that is not 0 where 0 is allowed too."""

    field: str
    kind: type
    default: Any
    optional: bool = False
    """Whether None is a value."""
    many: bool = False
    """Whether the value is a tuple (or mapping) of texts, given one by one."""
    help: str = ""
    low: float | None = None
    high: float | None = None
    above: float | None = None
    gap: float | None = None
    choices: tuple[str, ...] = ()
    noun: str = ""
    """What a value is, where the type does not say enough."""
    read: Callable[[str], Any] | None = None
    """Text to value, raising `ValueError`; the type's own reading where None."""
    keyword: str = ""
    """The parameter's name in Python, where it is not the field's."""
    flag: str = ""
    """The long name without dashes: `max-frames` for --max-frames, OMNIDROP_MAX_FRAMES and `max-frames = 8`."""
    short: str = ""
    old: tuple[str, ...] = ()
    """Earlier long names, which still work."""
    metavar: str = ""
    panel: str = ""
    """Heading of the help under which the flag stands."""
    shown: str = ""
    """The default as the help shows it, where the value itself says too little."""
    settable: bool = True
    """Whether environment variables and settings files may set it."""
    negatable: bool = True
    """Whether a switch has a --no- form."""
    separator: str = ""
    """What stands between several texts in one flag; empty where the flag is repeated instead."""
    complete: str = ""
    """What a shell offers for the value: a key of `commands._options.COMPLETIONS`."""
    words: bool = False
    """Whether the model reads the text: it must be one, where the name of a file may be any bytes."""

    @property
    def python_name(self) -> str:
        """What a library user calls it: the parameter of `Session.ask` and of the config."""
        return self.keyword or self.field

    @property
    def variable(self) -> str:
        """The environment variable: OMNIDROP_MAX_FRAMES."""
        return "OMNIDROP_" + self.flag.replace("-", "_").upper()

    @property
    def allowed(self) -> str:
        """What a value may be, as the end of a sentence."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        noun = self.noun or _NOUNS[self.kind]
        least = self.gap if self.gap is not None else self.low
        limits = (("above", self.above), ("at least", least), ("at most", self.high))
        bounds = [f"{word} {_shown(limit)}" for word, limit in limits if limit is not None]
        zero = "0, or " if self.gap is not None else ""
        return f"{zero}{noun} {' and '.join(bounds)}".rstrip()

    def check(self, value: Any, name: str) -> Any:
        """`value`, a whole number made a float where the option is one.

        Raises `UsageError` that calls the option `name` for a wrong type, a value out of bounds, or one that is not finite.
        """
        if value is None and self.optional:
            return None
        if self.many:
            return self._check_many(value, name)
        if self.words and isinstance(value, str):
            check_words(value, name)
        if not self._has_type(value) or (self.choices and value not in self.choices) or not self._within(value):
            raise UsageError(f"{name} is {_shown(value)}; it must be {self.allowed}", self._hint(value))
        return float(value) if self.kind is float else value

    def parse(self, text: str, name: str) -> Any:
        """The value that `text` stands for, checked. Raises `UsageError` that calls the option `name`."""
        stripped = text.strip()
        if self.optional and self.kind is not str and stripped.lower() in ("", "none"):
            return None
        try:
            value = self.read(stripped) if self.read is not None else _READ[self.kind](text if self.kind is str else stripped)
        except ValueError:
            raise UsageError(f"{name} is {_shown(text)}; it must be {self.allowed}", self._hint(text)) from None
        return self.check(value, name)

    def _check_many(self, value: Any, name: str) -> Any:
        if isinstance(value, str) or not isinstance(value, Mapping | tuple | list):
            raise UsageError(f"{name} is {_shown(value)}; it must be several texts", "write them as a tuple")
        for item in () if isinstance(value, Mapping) else value:
            if not isinstance(item, str):
                raise UsageError(f"{name} holds {_shown(item)}; it must hold texts", None)
            if self.words:
                check_words(item, f"`{name}`")
        return value if isinstance(value, Mapping) else tuple(value)

    def _has_type(self, value: Any) -> bool:
        if self.kind is bool or isinstance(value, bool):
            return self.kind is bool and isinstance(value, bool)
        if self.kind is Path:
            return isinstance(value, str | Path)
        return isinstance(value, int | float if self.kind is float else self.kind)

    def _within(self, value: Any) -> bool:
        if self.kind not in (int, float):
            return True
        if not -sys.float_info.max <= value <= sys.float_info.max:  # also false for NaN, and for whole numbers that no float can hold
            return False
        if self.gap is not None and value == 0:
            return True
        least = self.gap if self.gap is not None else self.low
        return (
            (self.above is None or value > self.above) and (least is None or value >= least) and (self.high is None or value <= self.high)
        )

    def _hint(self, value: Any) -> str:
        if self.high == 1 and isinstance(value, int | float) and 5 <= value <= 100:
            return f"it is a fraction, not a percentage: {value:g} % is {value / 100:g}"
        none = self.default is None or self.default == () or self.default is dataclasses.MISSING
        default = self.shown or ("" if none else _plain(self.default))
        return did_you_mean(str(value), self.choices, f"the default is {default}" if default else self.help)


def option(default: Any, help: str, **facts: Unpack[Facts]) -> Any:
    """A dataclass field that is an option; `facts` are attributes of `Option`. A callable default makes a new value each time."""
    metadata = {"help": help, **facts}
    return (
        dataclasses.field(default_factory=default, metadata=metadata)
        if callable(default)
        else dataclasses.field(default=default, metadata=metadata)
    )


@cache
def options_of(cls: type) -> Mapping[str, Option]:
    """The options of a dataclass by field: every field of a simple type, and tuples and mappings of texts that were declared."""
    hints = get_type_hints(cls)
    found = {field.name: _option(field, hints[field.name]) for field in dataclasses.fields(cls)}
    return MappingProxyType({name: one for name, one in found.items() if one is not None})


def check_options(record: Any) -> None:
    """Check every option of a frozen dataclass in its `__post_init__`, named as a Python parameter; floats become floats."""
    for name, one in options_of(type(record)).items():  # type: ignore[arg-type]  # every class is hashable
        given = getattr(record, name)
        checked = one.check(given, one.python_name)
        if checked is not given:
            object.__setattr__(record, name, checked)


def check_words(text: str, name: str) -> None:
    """Raise `UsageError` for lone surrogates: bytes of a command line that are not valid in the locale, or half of a pair in JSON."""
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise UsageError(f"{name} holds bytes that are not text", "write it in UTF-8")


def restored(cls: type[R], saved: Mapping[str, Any], **replaced: Any) -> R:
    """A config from the mapping of an earlier run: former names are understood, and fields that are gone or unknown are left out.

    Raises `UsageError` for values that it no longer takes.
    """
    declared = options_of(cls)  # type: ignore[arg-type]  # every class is hashable
    known = {old.replace("-", "_"): name for name, one in declared.items() for old in (*one.old, name)}
    return cls(**{known[name]: value for name, value in saved.items() if name in known} | replaced)


def seconds(text: str) -> float:
    """Seconds of "90", "90.5", "1:30" or "1:02:03.5". Raises `ValueError` for anything else."""
    parts = text.split(":")
    if len(parts) > 3 or any(not part.isdecimal() for part in parts[:-1]) or not parts[-1].replace(".", "", 1).isdecimal():
        raise ValueError(text)
    total = 0.0
    for part in parts:
        total = total * 60 + float(part)
    return total


def days(text: str) -> float:
    """Seconds of an age: "30d" (days), "2w" (weeks), "12h" or "45m". Raises `ValueError` for anything else."""
    size = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}[text[-1]] if text[-1:] in ("m", "h", "d", "w") else 0
    if not size or not text[:-1].replace(".", "", 1).isdecimal():
        raise ValueError(text)
    return float(text[:-1]) * size


def _option(field: dataclasses.Field[Any], hint: Any) -> Option | None:
    declared = dict(field.metadata)
    kinds = [kind for kind in get_args(hint) if kind is not NoneType] if get_origin(hint) in (Union, UnionType) else [hint]
    optional = kinds != [hint]
    kind, many = kinds[0], get_origin(kinds[0]) in (tuple, list) or _is_mapping(kinds[0])
    if get_origin(kind) is Literal:
        declared["choices"], kind = tuple(str(word) for word in get_args(kind)), str
    elif many and declared:
        kind = str
    if kind not in KINDS or len(kinds) != 1:
        return None
    default = field.default if field.default_factory is dataclasses.MISSING else ()
    declared.setdefault("flag", field.name.replace("_", "-"))
    names = {attribute.name for attribute in dataclasses.fields(Option)}
    return Option(field.name, kind, default, optional, many, **{name: fact for name, fact in declared.items() if name in names})


def _is_mapping(hint: Any) -> bool:
    origin = get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _boolean(text: str) -> bool:
    if text.lower() not in (*TRUE, *FALSE):
        raise ValueError(text)
    return text.lower() in TRUE


_READ: Mapping[type, Callable[[str], Any]] = {str: str, int: int, float: float, bool: _boolean, Path: Path}


def _shown(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else _plain(value)


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
