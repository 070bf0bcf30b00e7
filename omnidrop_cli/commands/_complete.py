"""What a shell offers for the value of a flag or an argument.

Annotations here are evaluated at once: Typer evaluates those of every completion for every flag of every command, and strings cost it a
third of the time that the help takes.
"""

import glob
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import typer


def methods(incomplete: str) -> list[str]:
    """Methods that continue `incomplete`; after a "+", the second method of a composition."""
    from omnidrop_cli.prune.methods import names

    first, plus, second = incomplete.rpartition("+")
    return [f"{first}{plus}{name}" for name in names() if name.startswith(second)]


def presets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Presets of the method on the command line. Importing a method imports torch, so this one takes seconds."""
    return _continuing(_described(ctx)["presets"], incomplete)


def method_options(ctx: typer.Context, incomplete: str) -> list[str]:
    """Options of the method on the command line, as `NAME=`; after the "=", its choices."""
    name, equals, _ = incomplete.partition("=")
    options = [one for one in _described(ctx)["options"] if one["name"] not in ("keep", "seed")]
    if not equals:
        return _continuing((f"{one['name']}=" for one in options), incomplete)
    kind = next((one["type"] for one in options if one["name"] == name), "")
    return _continuing(
        (f"{name}={word}" for word in ("true|false" if kind == "bool" else kind if "|" in kind else "").split("|")), incomplete
    )


def models(incomplete: str) -> list[str]:
    """Short names, hub repositories and quantized copies; directories once a path is begun."""
    from omnidrop_cli import paths
    from omnidrop_cli.model.names import HUB_NAMES, NAMES

    folder = paths.models()
    copies = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    folders = [path for path in files(incomplete) if path.endswith(os.sep)] if incomplete.startswith((".", "/", "~")) else []
    return [*_continuing((*NAMES, *HUB_NAMES.values(), *copies), incomplete), *folders]


def devices(incomplete: str) -> list[str]:
    """Kinds of device, and the NVIDIA GPUs that the system shows; asking PyTorch would take seconds."""
    gpus = sorted(int(name) for path in glob.glob("/dev/nvidia*") if (name := path.removeprefix("/dev/nvidia")).isdecimal())
    return _continuing(("auto", "cpu", "cuda", *(f"cuda:{number}" for number in range(len(gpus)))), incomplete)


def browsers(incomplete: str) -> list[str]:
    """Browsers whose cookies yt-dlp reads."""
    return _continuing(("brave", "chrome", "chromium", "edge", "firefox", "opera", "safari", "vivaldi", "whale"), incomplete)


def answers(incomplete: str) -> list[str]:
    """Numbers of the answers in the history."""
    from omnidrop_cli import history

    with suppress(Exception):  # a history that cannot be read completes nothing
        return _continuing((str(entry.id) for entry in history.entries(last=100)), incomplete)
    return []


def benchmarks(incomplete: str) -> list[str]:
    from omnidrop_cli.evaluate.benchmarks import BENCHMARKS

    return _continuing(BENCHMARKS, incomplete)


def profiles(incomplete: str) -> list[str]:
    from omnidrop_cli import settings

    with suppress(Exception):  # a broken settings file completes nothing
        return _continuing(sorted(settings.profiles()), incomplete)
    return []


def commands(ctx: typer.Context, incomplete: str) -> list[str]:
    """Commands of the program."""
    program: Any = ctx.find_root().command
    return _continuing(program.commands, incomplete)


def media(incomplete: str) -> list[str]:
    """Bundled clips, and files and folders, which the shell no longer completes by itself."""
    return [*_continuing(("demo", "demo2"), incomplete), *files(incomplete)]


def files(incomplete: str) -> list[str]:
    """Files and folders that continue a path; folders end in a slash."""
    found = sorted(glob.glob(glob.escape(os.path.expanduser(incomplete)) + "*"))
    return [path + os.sep if os.path.isdir(path) else path for path in found]


def _described(ctx: typer.Context) -> Mapping[str, Any]:
    from omnidrop_cli.prune.methods import describe

    with suppress(Exception):  # an unknown method completes nothing
        return describe(ctx.params.get("method") or "omnidrop")
    return {"presets": (), "options": ()}


def _continuing(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in words if word and word.startswith(incomplete)]


COMPLETIONS: Mapping[str, Callable[..., list[str]]] = {
    "methods": methods,
    "presets": presets,
    "method-options": method_options,
    "models": models,
    "devices": devices,
    "benchmarks": benchmarks,
    "profiles": profiles,
    "commands": commands,
    "media": media,
    "files": files,
    "browsers": browsers,
    "answers": answers,
}
"""By the names that options use in their `complete`."""


def words_of(choices: tuple[str, ...]) -> Callable[[str], list[str]]:
    """Completes one of `choices`."""

    def complete(incomplete: str) -> list[str]:
        return _continuing(choices, incomplete)

    return complete
