"""Command-line flags made from declared options, and the flags that only commands have.

Input: a command whose parameters are dataclasses of options. Output: the function that Typer sees, with one parameter per flag. Values
come from the flag, else from a variable or a settings file, else from the declaration; all are checked by it.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_type_hints

import typer

from omnidrop_cli import settings
from omnidrop_cli.commands._complete import COMPLETIONS, words_of
from omnidrop_cli.commands._deprecation import deprecated
from omnidrop_cli.config import FetchConfig, GenerationConfig, MediaConfig, ModelConfig, PruningConfig, Request
from omnidrop_cli.errors import UsageError
from omnidrop_cli.options import Option, option, options_of

INPUT, MEDIA, PRUNING, MODEL, GENERATION, OUTPUT = "Input", "Media", "Pruning", "Model", "Generation", "Output"

_METAVARS: Mapping[type, str] = {str: "TEXT", int: "N", float: "NUMBER", Path: "FILE", bool: ""}


def flag(default: Any, help: str, **facts: Any) -> Any:
    """A dataclass field that is a flag of commands only: no variable and no settings file sets it."""
    return option(default, help, settable=False, **facts)


def switch(help: str, **facts: Any) -> Any:
    """A flag without a value and without a --no- form."""
    return option(False, help, settable=False, negatable=False, **facts)


def same(cls: type, field: str, **changes: Any) -> Any:
    """A dataclass field declared as `cls.field` is, with `changes` to its default and facts."""
    one = next(found for found in dataclasses.fields(cls) if found.name == field)
    return dataclasses.field(default=changes.pop("default", one.default), metadata={**one.metadata, **changes})


@dataclass(frozen=True, slots=True)
class ConsoleFlags:
    """Flags of every command. `debug` is read by `_app`, which outlives the parse; here it stands for the help."""

    PANEL: ClassVar[str] = OUTPUT

    quiet: bool = switch("Print errors and the result only.")
    verbose: bool = switch("Log each pipeline stage to stderr.", short="v")
    no_color: bool = switch("Do not use colors; NO_COLOR does the same.")
    debug: bool = switch("Show the traceback of an error.")
    profile: str | None = flag(None, "Use the table [profile.NAME] of the settings file.", metavar="NAME", complete="profiles")


@dataclass(frozen=True, slots=True)
class JsonFlags:
    """For commands whose result can be one JSON object."""

    PANEL: ClassVar[str] = OUTPUT

    as_json: bool = switch("Print one JSON object on stdout.", flag="json")


@dataclass(frozen=True, slots=True)
class OutputFlags(JsonFlags):
    """For commands whose result can go to a file."""

    output: Path | None = flag(None, "Write the result to FILE, atomically.", short="o")


@dataclass(frozen=True, slots=True)
class UnloadedFlags:
    """For commands that fetch a clip and load no model."""

    PANEL: ClassVar[str] = MODEL

    name: str = same(ModelConfig, "name")
    offline: bool = same(ModelConfig, "offline")


@dataclass(frozen=True, slots=True)
class SystemFlags:
    """The system prompt, which belongs to a request rather than to one of its configs."""

    PANEL: ClassVar[str] = GENERATION

    system: str | None = same(Request, "system")


def media_argument(more: str = "", metavar: str = "MEDIA", then: str = "") -> Any:
    """The argument MEDIA; `more` is what else it may be in a command, `then` what the help says of further words."""
    text = f"A video or audio file, a picture, an http(s) address,{more} or demo (a bundled clip){then}."
    return typer.Argument(help=text, metavar=metavar, show_default=False, autocompletion=COMPLETIONS["media"])


Media = Annotated[str, media_argument()]
MediaOrStdin = Annotated[str, media_argument(" - (a file on stdin),")]
SeveralMedia = Annotated[list[str], media_argument(metavar="MEDIA...", then=", or several of them")]
MediaAndQuestion = Annotated[
    list[str],
    media_argument(" - (a file on stdin),", "MEDIA... QUESTION", ", or several of them; then what to ask (- reads it from stdin)"),
]


OLD_FLAGS: dict[str, str] = {}
"""Former flags and what they are now, of the commands built so far."""

# ---------------------------------------------------------------- from options to Typer


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """`command` as Typer should see it: every parameter whose type is a dataclass becomes a flag for each of its options.

    A dataclass may also hold dataclasses of options. Flags that two dataclasses share are one flag. Other parameters are Typer's own
    (arguments).
    """
    groups: dict[str, type] = {}
    spread: dict[str, inspect.Parameter] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if isinstance(parameter.annotation, type) and dataclasses.is_dataclass(parameter.annotation):
            groups[parameter.name] = parameter.annotation
            for group in _parts(parameter.annotation).values() or (parameter.annotation,):
                for one in options_of(group).values():
                    spread[_word(one)] = _typer_parameter(one, getattr(group, "PANEL", ""))
        else:
            spread[parameter.name] = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
    flat = [group for outer in groups.values() for group in _parts(outer).values() or (outer,)]

    def run(**words: Any) -> None:
        values = Values(words, flat)
        own = {name: word for name, word in words.items() if name in inspect.signature(command).parameters and name not in groups}
        command(**own, **{name: values.record(group) for name, group in groups.items()})

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.options = {_word(one): one for group in flat for one in options_of(group).values()}  # type: ignore[attr-defined]
    run.__signature__ = inspect.Signature([*spread.values()])  # type: ignore[attr-defined]  # read by inspect.signature
    run.__annotations__ = {name: parameter.annotation for name, parameter in spread.items()}
    return run


def _parts(group: type) -> dict[str, type]:
    """The dataclasses of options that a dataclass holds; empty where its fields are options."""
    hints = get_type_hints(group)
    parts = {one.name: hints[one.name] for one in dataclasses.fields(group)}
    return parts if all(isinstance(part, type) and dataclasses.is_dataclass(part) for part in parts.values()) else {}


class Values:
    """The values of one command line, with the settings behind them. `words` are Typer's values: None or empty where no flag was given."""

    def __init__(self, words: Mapping[str, Any], groups: Iterable[type]) -> None:
        self._words = words
        declared = [one for group in groups for one in options_of(group).values()]
        self._settings = settings.given(words.get("profile")) if any(one.settable for one in declared) else {}
        if self._given("keep") or self._given("preset"):  # both set the budget: a flag replaces what a variable or a file says
            self._settings = {name: setting for name, setting in self._settings.items() if name not in ("keep", "preset")}

    def record(self, group: type) -> Any:
        """The dataclass. Raises `UsageError` that names flags, variables and files rather than parameters."""
        if parts := _parts(group):
            return group(**{name: self.record(part) for name, part in parts.items()})
        options = options_of(group)
        values = {name: self._value(one) for name, one in options.items() if self._given(_word(one)) or self._setting(one) is not None}
        try:
            return group(**values)
        except UsageError as error:
            origins = {one.field: self._origin(one) for one in options.values()}
            raise UsageError(as_flags(error.message, origins), error.hint and as_flags(error.hint)) from error

    def _value(self, one: Option) -> Any:
        word = self._words[_word(one)] if self._given(_word(one)) else None
        if word is None:
            setting = self._setting(one)
            if setting is None:
                raise ValueError(f"--{one.flag} has no value")
            if setting.notice:
                deprecated(setting.notice)
            return settings.value_of(one, setting)
        if one.kind is bool:
            return word
        if one.many:
            if one.separator:
                return tuple(part.strip() for text in word for part in text.split(one.separator))
            return dict(map(_pair, word)) if one.metavar == "KEY=VALUE" else tuple(word)
        return one.parse(word, f"--{one.flag}")

    def _given(self, word: str) -> bool:
        return self._words.get(word) not in (None, [], ())

    def _setting(self, one: Option) -> settings.Setting | None:
        return self._settings.get(one.flag) if one.settable else None

    def _origin(self, one: Option) -> str:
        setting = self._setting(one)
        if self._given(_word(one)) or setting is None:
            return f"--{one.flag}"
        return setting.origin if setting.origin.startswith("OMNIDROP_") else f"{setting.origin}: {one.flag}"


def as_flags(text: str, names: Mapping[str, str] | None = None) -> str:
    """A library's message with its options named as flags: `max_frames` becomes --max-frames, `use_audio=False` becomes --no-audio.

    `names` are other names for some of the fields.
    """

    def spelled(match: re.Match[str]) -> str:
        one = _flags().get(match[1])
        if one is None:
            return match[0]
        if one.kind is bool and match[2] == "False":
            return f"--no-{one.flag}"
        name = (names or {}).get(one.field, f"--{one.flag}")
        return name if match[2] is None or one.kind is bool else f"{name} {match[2]}"

    return re.sub(r"`(\w+)(?:=([^`]*))?`", spelled, text)


@cache
def _flags() -> dict[str, Option]:
    """Options by the names that messages use: the Python parameter's and the field's."""
    groups = (MediaConfig, FetchConfig, ModelConfig, PruningConfig, GenerationConfig, SystemFlags)
    found = {one.python_name: one for group in groups for one in options_of(group).values()}
    plain = ("data", "fetch", "devices", "cluster", "workers", "export", "methods", "output", "debug")
    return {name: Option(name, str, None, flag=name) for name in plain} | found


@cache
def _typer_parameter(one: Option, panel: str) -> inspect.Parameter:
    spelled = f"--{one.flag}/--no-{one.flag}" if one.kind is bool and one.negatable else f"--{one.flag}"
    for old in one.old:
        OLD_FLAGS.update({f"--{old}": f"--{one.flag}"} | ({f"--no-{old}": f"--no-{one.flag}"} if one.kind is bool else {}))
    kind = bool | None if one.kind is bool else list[str] | None if one.many else str | None
    made = typer.Option(
        *([spelled] if not one.short else [spelled, f"-{one.short}"]),
        help="".join(_help(one)),
        metavar=one.metavar or _METAVARS[one.kind],
        rich_help_panel=one.panel or panel or None,
        show_default=False,
        autocompletion=_completion(one),
    )
    return inspect.Parameter(_word(one), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, made])


def _completion(one: Option) -> Callable[..., list[str]] | None:
    """What a shell offers for the value: what the option names, its choices, or files where it takes one."""
    if one.complete or one.choices:
        return COMPLETIONS.get(one.complete) or words_of(one.choices)
    return COMPLETIONS["files"] if one.kind is Path or one.metavar == "FILE" else None


def _help(one: Option) -> Iterator[str]:
    yield one.help.replace("[", "\\[")
    if one.choices:
        yield f" One of {', '.join(one.choices)}."
    if shown := default_text(one):
        yield f" [dim]\\[default: {shown}][/]"


def default_text(one: Option) -> str:
    """The default as the help shows it; empty where there is none to show."""
    if one.shown or one.default is None or one.many:
        return one.shown
    if one.kind is bool:
        return ("yes" if one.default else "no") if one.negatable else ""
    return f"{one.default:g}" if isinstance(one.default, float) else str(one.default)


def _word(one: Option) -> str:
    """The name of Typer's parameter: the flag's, since two configs may have fields of one name."""
    return one.flag.replace("-", "_")


def _pair(written: str) -> tuple[str, str]:
    name, equals, value = written.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"--option {written} is not KEY=VALUE", "for example: --option beta=20")
    return name.strip(), value
