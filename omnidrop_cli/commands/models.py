"""`omnidrop models`: what is on this disk, fetching, quantised copies, removing.

Knows: tables, progress, questions before deleting. Does not know where models lie (`model/local.py`), the hub (`model/hub.py`), or
how a copy is made (`model/quantize.py`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omnidrop_cli import paths
from omnidrop_cli.commands._console import ConsoleFlags, JsonFlag, Screen, dump, emit
from omnidrop_cli.commands._options import MODEL, ModelFlags, flag
from omnidrop_cli.config import ModelConfig
from omnidrop_cli.errors import ModelError, UsageError
from omnidrop_cli.report.text import one_line

if TYPE_CHECKING:
    from omnidrop_cli.model.local import Entry
    from omnidrop_cli.model.names import ModelSpec
    from omnidrop_cli.report.layout import DataTable

QUANTS = ("nf4", "int8", "none")


def _names(incomplete: str) -> list[str]:
    """What a shell offers: short names, and the copies there are."""
    from omnidrop_cli.model.names import HUB_NAMES

    folder = paths.models()
    copies = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    return [name for name in (*HUB_NAMES, *HUB_NAMES.values(), *copies) if name.startswith(incomplete)]


Name = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="3b, 7b, a hub repository (owner/name), or a quantised copy.", autocompletion=_names),
]
Revision = Annotated[str | None, typer.Option("--revision", rich_help_panel=MODEL, help="Branch, tag or commit of a hub repository.")]
Offline = Annotated[bool, flag("offline", "Never touch the network.", MODEL, "--offline/--no-offline")]


def list_models(console: ConsoleFlags, as_json: JsonFlag = False) -> None:
    """What is on this disk, how large it is, and what a minute of video would take.

    Needed memory is that of a GPU for one minute of video with sound at the default size, unpruned: weights, cache, activations.
    """
    from omnidrop_cli.model.local import entries
    from omnidrop_cli.model.names import gpu_bytes

    found, size = entries(), gpu_bytes()
    if as_json:
        emit(dump({"schema": 1, "gpu_bytes": size or None, "models": [_entry(entry, size) for entry in found]}), None)
        return
    from rich.console import Console
    from rich.text import Text

    with Screen(console) as screen:
        Console(markup=False, highlight=False, no_color=console.no_color or None).print(_table(found, size))
        for entry in found:
            if entry.problem:
                screen.show(Text(f"{one_line(entry.name)} cannot load: {one_line(entry.problem)}", style="red"))
        screen.show(Text("nf4, int8, bf16: GPU memory for a minute of video, unpruned", style="dim"))
        gpu = f"{size / 1e9:.1f} GB of GPU memory" if size else "no NVIDIA GPU found"
        screen.show(Text(f"{gpu}; omnidrop models pull 3b fetches a model" if len(found) < 2 else gpu, style="dim"))


def pull(name: Name, console: ConsoleFlags, revision: Revision = None) -> None:
    """Fetch a model into the hub's cache; --offline works afterwards. A download that stopped goes on where it was.

    Only the parts that answer in text are fetched, not the voice.
    """
    spec = _resolve(name)
    if spec.kind != "hub":
        raise UsageError(f"{one_line(name)} is on this disk already", "pull fetches 3b, 7b or a hub repository (owner/name)")
    from omnidrop_cli.model.hub import pull as fetch

    with Screen(console) as screen:
        directory, commit = fetch(spec.source, revision, False, screen)
        screen.show(f"{spec.source} at {commit[:12]}")
    emit(str(directory), None)


def path(name: Name, console: ConsoleFlags, revision: Revision = None) -> None:
    """Print the directory of a model on this disk."""
    emit(str(_directory(_resolve(name), revision)), None)


def quantize(
    loading: ModelFlags,
    console: ConsoleFlags,
    name: Annotated[str | None, typer.Argument(metavar="MODEL", help="What to copy; --model if unset.", autocompletion=_names)] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Write the copy here instead of among the models.")
    ] = None,
) -> None:
    """Keep a quantised copy of a model: it loads faster, takes less disk, and needs the original no more.

    The copy is asked for by the name this prints, as in --model 7b-nf4.
    """
    from dataclasses import replace

    choice = loading.record()
    choice = replace(choice, name=name or choice.name, quant="nf4" if choice.quant == "auto" else choice.quant)
    if choice.quant == "none":
        raise UsageError("--quant none leaves nothing to do", "give nf4 or int8")
    spec = _resolve(choice.name, choice)
    target = output or paths.models() / f"{_short(spec)}-{choice.quant}"
    if target.exists():
        raise ModelError(
            f"{target} exists already", f"omnidrop models rm {target.name} removes it" if output is None else "choose another DIR"
        )
    with Screen(console) as screen:
        from omnidrop_cli.model.load import load
        from omnidrop_cli.model.quantize import save_quantized

        thinker = load(choice, screen)
        screen.stage("save", str(target))
        save_quantized(thinker, target)
    emit(target.name if output is None else str(target), None)


def remove(
    name: Name,
    console: ConsoleFlags,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a model from this disk: from the hub's cache, or a quantised copy."""
    from omnidrop_cli.model.local import find
    from omnidrop_cli.model.local import remove as delete

    found = find(name)
    size = sum(entry.size_bytes for entry in found)
    what = f"{one_line(name)}, {_size(size)} in {', '.join(one_line(str(entry.path)) for entry in found)}"
    if not yes and found[0].kind != "builtin":
        if not sys.stdin.isatty():
            raise UsageError(f"this would delete {what}", "--yes does it without asking")
        typer.confirm(f"Delete {what}?", abort=True, err=True)
    delete(found)
    with Screen(console) as screen:
        screen.show(f"{_size(size)} freed")


COMMANDS = (
    ("list", list_models, ("omnidrop models list",)),
    ("pull", pull, ("omnidrop models pull 7b", "omnidrop models pull Qwen/Qwen2.5-Omni-3B --revision main")),
    ("path", path, ('ls "$(omnidrop models path 7b)"',)),
    ("quantize", quantize, ("omnidrop models quantize 7b --quant nf4", 'omnidrop ask clip.mp4 "What is said?" --model 7b-nf4')),
    ("rm", remove, ("omnidrop models rm 7b-nf4", "omnidrop models rm 3b --yes")),
)
"""Names, functions and examples of the group's commands."""


def _resolve(name: str, choice: ModelConfig | None = None) -> ModelSpec:
    from dataclasses import replace

    from omnidrop_cli.model.names import resolve

    spec = resolve(replace(choice or ModelConfig(), name=name))
    if spec.kind == "random":
        raise UsageError(f"{one_line(name)} has random weights, made anew each time", "there is no file of it")
    return spec


def _directory(spec: ModelSpec, revision: str | None) -> Path:
    if spec.kind != "hub":
        return Path(spec.source)
    from omnidrop_cli.events import SILENT
    from omnidrop_cli.model.hub import pull as fetch

    return fetch(spec.source, revision, True, SILENT)[0]


def _short(spec: ModelSpec) -> str:
    """A name for the copy: 7b for a known model, the last part of a repository or directory otherwise."""
    return spec.name if spec.kind == "builtin" or "/" not in spec.name else Path(spec.source).name


def _entry(entry: Entry, gpu: int) -> dict[str, Any]:
    return {
        "name": entry.name,
        "kind": entry.kind,
        "path": str(entry.path),
        "size_bytes": entry.size_bytes,
        "quant": entry.quant,
        "revision": entry.revision,
        "problem": entry.problem,
        "needed_mb": {quant: round(size) for quant, size in _needs(entry).items()},
    }


def _needs(entry: Entry) -> dict[str, float]:
    """Megabytes for a minute of video by quantisation; a copy has its own only."""
    from omnidrop_cli.model.local import needed_mb

    if entry.sizes is None:
        return {}
    return {quant: needed_mb(entry.sizes, quant) for quant in (QUANTS if entry.quant == "none" else (entry.quant,)) if quant in QUANTS}


def _table(found: list[Entry], gpu: int) -> DataTable:
    from omnidrop_cli.report.layout import Column, DataTable

    columns = [Column("model", right=False), Column("on disk"), Column("stored", 1, right=False)]
    columns += [Column("bf16" if quant == "none" else quant) for quant in QUANTS]
    columns.append(Column("revision", 2, right=False))
    rows = []
    for entry in found:
        needs = _needs(entry)
        cells = (_fitting(needs[quant], gpu) if quant in needs else "" for quant in QUANTS)
        rows.append((one_line(entry.name), _size(entry.size_bytes), entry.quant, *cells, one_line(entry.revision or "")[:7]))
    return DataTable(tuple(columns), tuple(rows))


def _fitting(megabytes: float, gpu: int) -> str:
    return _size(megabytes * 1e6) + ("" if not gpu else " fits" if megabytes * 1e6 <= gpu else " no")


def _size(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
