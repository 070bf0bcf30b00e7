"""The registry: a name and options become a `Method`.

Built-in methods and those of the entry point group `omnidrop.methods` (name -> module:class). A method's module, and torch with it, is
imported when the method is made.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from omnidrop_cli.errors import UsageError, summarize
from omnidrop_cli.prune import method_options
from omnidrop_cli.prune.base import Method
from omnidrop_cli.suggest import did_you_mean

if TYPE_CHECKING:
    from omnidrop_cli.config import PruningConfig

GROUP = "omnidrop.methods"

_HERE = "omnidrop_cli.prune.methods"
_BUILT_IN = {
    "omnidrop": f"{_HERE}.omnidrop:OmniDrop",
    "none": f"{_HERE}.none:Unpruned",
    "omnizip": f"{_HERE}.omnizip:OmniZip",
    "omnisift": f"{_HERE}.omnisift:OmniSift",
    "seats": f"{_HERE}.seats:Seats",
    "dash": f"{_HERE}.dash:Dash",
    "dycoke": f"{_HERE}.dycoke:DyCoke",
    "fastv": f"{_HERE}.fastv:FastV",
    "divprune": f"{_HERE}.divprune:DivPrune",
    "omnipack": f"{_HERE}.omnipack:OmniPack",
    "omnifocus": f"{_HERE}.omnifocus:OmniFocus",
    "omniblend": f"{_HERE}.omniblend:OmniBlend",
    "random": f"{_HERE}.random:Random",
    "random-input": f"{_HERE}.random:RandomAtInput",
}


def names() -> tuple[str, ...]:
    """Every method there is: built-in ones first, then those other packages offer, by name."""
    return (*_BUILT_IN, *sorted(set(_offered()) - set(_BUILT_IN)))


def get_method(choice: PruningConfig) -> Method:
    """The method a choice names, its options parsed and checked. `a+b` takes the input of a and the inside of b.

    In a composition an option goes to every part that has it, or to one as `part.option`.

    Raises `UsageError` for an unknown method, preset or option, a value out of range, or `keep` together with a preset.
    """
    if "+" in choice.name:
        return _composition(choice)
    cls = find(choice.name)
    return cls(**_arguments(cls, choice))


def parts(name: str) -> tuple[str, ...]:
    """The names a method's name consists of: itself, or the two joined by "+". Imports no method.

    Raises `UsageError` for an unknown method (with near names) and for more than two parts.
    """
    found = tuple(name.split("+"))
    if len(found) > 2:
        raise UsageError(f"'{name}' is not two methods", "for example: seats+omnidrop")
    for part in found:
        if part not in names():
            raise UsageError(f"unknown method '{part}'", did_you_mean(part, names(), "omnidrop methods lists them", most=2))
    return found


def find(name: str) -> type[Method]:
    """The class of a method. Raises `UsageError` with near names, or with why a plugin cannot be loaded."""
    target = {**_offered(), **_BUILT_IN}.get(name)
    if target is None:
        raise UsageError(f"unknown method '{name}'", did_you_mean(name, names(), "omnidrop methods lists them", most=2))
    cls = _loaded(target) if name in _BUILT_IN else _plugin(name, target)
    if not (isinstance(cls, type) and issubclass(cls, Method) and isinstance(cls.presets, Mapping) and isinstance(cls.summary, str)):
        raise UsageError(f"method '{name}' at {target} is not a Method", "a method subclasses omnidrop_cli.prune.base.Method")
    return cls


def _loaded(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def _plugin(name: str, target: str) -> Any:
    """What another package offers. It may do anything while it is imported; what it prints goes to stderr, since stdout holds answers."""
    try:
        with redirect_stdout(sys.stderr):
            return _loaded(target)
    except (Exception, SystemExit) as problem:
        reason = f"{type(problem).__name__}: {summarize(problem)}"
        raise UsageError(f"method '{name}' cannot be loaded from {target}: {reason}", "reinstall the package that offers it") from problem


def plugins() -> Mapping[str, str]:
    """The methods of other packages: name -> the package's module."""
    return {name: target.partition(":")[0] for name, target in _offered().items() if name not in _BUILT_IN}


def describe_all(note: Callable[[str], None] = lambda line: None) -> list[dict[str, Any]]:
    """Name, summary, paper, presets and options of every method, JSON-ready. `note` is called with why a plugin is left out."""
    found = []
    for name in names():
        try:
            found.append(describe(name))
        except UsageError as error:
            note(error.message)
    return found


def describe(name: str) -> dict[str, Any]:
    """Name, summary, paper, presets and options of a method or of a composition, JSON-ready.

    Raises `UsageError` for an unknown method and for two that cannot be combined.
    """
    if "+" in name:
        return _describe_composition(name)
    cls = find(name)
    return {
        "name": name,
        "summary": cls.summary,
        "paper": cls.paper,
        "presets": {preset: dict(values) for preset, values in cls.presets.items()},
        "options": method_options.describe(cls),
    }


def _describe_composition(name: str) -> dict[str, Any]:
    """Options of a part carry its name before a dot, as `get_method` takes them."""
    from omnidrop_cli.config import PruningConfig

    composition = get_method(PruningConfig(name))
    first, second = parts(name)
    described = [describe(part) for part in (first, second)]
    options = [
        {**option, "name": f"{part['name']}.{option['name']}"}
        for part in described
        for option in part["options"]
        if option["name"] not in ("keep", "seed")
    ]
    return {
        "name": name,
        "summary": f"{first} chooses what enters the decoder, {second} drops tokens inside it",
        "paper": "; ".join(dict.fromkeys(part["paper"] for part in described if part["paper"])),
        "presets": {},
        "options": [*(option for option in method_options.describe(type(composition)) if option["name"] == "keep"), *options],
    }


def _arguments(cls: type[Method], choice: PruningConfig) -> dict[str, object]:
    fields: Any = getattr(cls, "__dataclass_fields__", {})
    values: dict[str, object] = {}
    if choice.preset is not None:
        if choice.preset not in cls.presets:
            hint = did_you_mean(choice.preset, cls.presets, f"its presets: {', '.join(cls.presets) or 'none'}", most=2)
            raise UsageError(f"method {choice.name} has no preset '{choice.preset}'", hint)
        values.update(cls.presets[choice.preset])
    if choice.keep is not None:
        if "keep" in fields:
            values["keep"] = choice.keep
        elif choice.keep != 1:
            raise UsageError(f"method {choice.name} has no `keep`", "`omnidrop methods NAME` lists the options of each")
    if "seed" in fields:
        values["seed"] = choice.seed
    return {**values, **method_options.parse(cls, choice.options, choice.name)}


def _composition(choice: PruningConfig) -> Method:
    from omnidrop_cli.prune.methods.compose import Composition

    owners = parts(choice.name)
    if choice.preset is not None:
        raise UsageError(f"{choice.name} has no presets", "give `keep`")
    classes = [find(part) for part in owners]
    for name in choice.options:
        owner, dot, _ = name.partition(".")
        if not (owner in owners if dot else any(_has(cls, name) for cls in classes)):
            raise UsageError(f"{choice.name} has no option '{name}'", f"its parts have options of their own: {owners[0]}.OPTION=VALUE")
    first, second = (_part(cls, choice, part) for cls, part in zip(classes, owners, strict=True))
    return Composition(first, second, **_arguments(Composition, replace(choice, options={})))  # type: ignore[arg-type]


def _part(cls: type[Method], choice: PruningConfig, part: str) -> Method:
    """One half of a composition, with the options that are its own or that it has; the budget is not its to set."""
    options_of_part = {name: value for name, value in choice.options.items() if "." not in name and _has(cls, name)}
    options_of_part |= {name.partition(".")[2]: value for name, value in choice.options.items() if name.startswith(f"{part}.")}
    return cls(**_arguments(cls, replace(choice, name=part, keep=None, options=options_of_part)))


def _has(cls: type[Method], option: str) -> bool:
    return method_options.canonical_name(cls, option) in getattr(cls, "__dataclass_fields__", {})


@cache
def _offered() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=GROUP)}
