"""`omnidrop models`: what is on this disk, downloading, quantized copies, removing."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from omnidrop_cli import paths
from omnidrop_cli.commands._complete import COMPLETIONS
from omnidrop_cli.commands._console import Console, dump, emit
from omnidrop_cli.commands._options import MODEL, ConsoleFlags, JsonFlags, flag, same, switch
from omnidrop_cli.config import ModelConfig
from omnidrop_cli.errors import ModelError, UsageError
from omnidrop_cli.report.text import one_line

if TYPE_CHECKING:
    from omnidrop_cli.model.local import Entry
    from omnidrop_cli.model.names import ModelSpec
    from omnidrop_cli.report.columns import DataTable

QUANTS = ("nf4", "int8", "none")


Name = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="3b, 7b, a hub repository (OWNER/NAME), or a quantized copy.", autocompletion=COMPLETIONS["models"]
    ),
]


@dataclass(frozen=True, slots=True)
class RevisionFlags:
    """For commands that name a hub repository."""

    PANEL: ClassVar[str] = MODEL

    revision: str | None = same(ModelConfig, "revision")


@dataclass(frozen=True, slots=True)
class CopyFlags:
    """Where a quantized copy goes."""

    output: Path | None = flag(None, "Write the copy to DIR instead of among the models.", short="o", metavar="DIR")


@dataclass(frozen=True, slots=True)
class RemoveFlags:
    """How a model is removed."""

    yes: bool = switch("Do not ask.", short="y")


def list_models(result: JsonFlags, console: ConsoleFlags) -> None:
    """List the models on this disk, their size, and the GPU memory that a minute of video needs.

    The memory is an estimate for one minute of video with sound at the default frame size, without pruning: weights, cache, activations.
    """
    from omnidrop_cli.model.gpu_memory import gpu_memory
    from omnidrop_cli.model.local import entries
    from omnidrop_cli.model.memory_estimate import spoken_head_change

    memory = gpu_memory()
    found, size = entries(), 0 if memory is None else memory.total
    if result.as_json:
        emit(dump({"schema": 1, "gpu_bytes": size or None, "models": [_entry(entry, size) for entry in found]}))
        return
    from rich.text import Text

    with Console(console) as screen:
        screen.print(_table(found, size))
        for entry in found:
            if entry.problem:
                screen.show(Text(f"{one_line(entry.name)} cannot load: {one_line(entry.problem)}", style="red"))
        screen.show(Text("nf4, int8, bf16: GPU memory for a minute of video, unpruned", style="dim"))
        for words in dict.fromkeys(spoken_head_change(change) for entry in found if (change := _head_change(entry))):
            screen.show(Text(words, style="dim"))
        gpu = f"{size / 1e9:.1f} GB of GPU memory" if size else "no NVIDIA GPU found"
        screen.show(Text(f"{gpu}; omnidrop models pull 3b fetches a model" if len(found) < 2 else gpu, style="dim"))


def pull(name: Name, version: RevisionFlags, console: ConsoleFlags) -> None:
    """Download a model into the hub's cache; --offline works afterwards. A download that was stopped is continued.

    Only the parts that answer in text are downloaded, not those that speak.
    """
    spec = _resolve(name)
    if spec.kind != "hub":
        raise UsageError(f"{one_line(name)} is on this disk already", "pull fetches 3b, 7b or a hub repository (owner/name)")
    from omnidrop_cli.model.hub import pull as fetch

    with Console(console) as screen:
        directory, commit = fetch(spec.source, version.revision, False, screen)
        screen.show(f"{spec.source} at {commit[:12]}")
    emit(str(directory))


def path(name: Name, version: RevisionFlags, console: ConsoleFlags) -> None:
    """Print the directory of a model on this disk."""
    emit(str(_directory(_resolve(name), version.revision)))


def quantize(
    target: CopyFlags,
    model: ModelConfig,
    console: ConsoleFlags,
    name: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="What to copy; --model if not given.", autocompletion=COMPLETIONS["models"])
    ] = None,
) -> None:
    """Save a quantized copy of a model: it loads faster, takes less disk space, and does not need the original any more.

    The copy is used by the name that this command prints, as in --model 7b-nf4.
    """
    from dataclasses import replace

    choice = replace(model, name=name or model.name, quant="nf4" if model.quant == "auto" else model.quant)
    if choice.quant == "none":
        raise UsageError("--quant none leaves nothing to do", "give nf4 or int8")
    if choice.quant_head != "none":
        raise UsageError("a copy keeps its output matrix unquantized", "give --quant-head where the copy is used")
    spec = _resolve(choice.name, choice)
    place = target.output or paths.models() / f"{_short(spec)}-{choice.quant}"
    if place.exists():
        raise ModelError(
            f"{place} exists already", f"omnidrop models rm {place.name} removes it" if target.output is None else "choose another DIR"
        )
    with Console(console) as screen:
        from omnidrop_cli.model.load import load
        from omnidrop_cli.model.quantize import save_quantized

        thinker = load(choice, screen)
        screen.stage("save", str(place))
        save_quantized(thinker, place)
    emit(place.name if target.output is None else str(place))


def remove(name: Name, sure: RemoveFlags, console: ConsoleFlags) -> None:
    """Delete a model from this disk: from the hub's cache, or a quantized copy. One that a running process uses stays."""
    from omnidrop_cli.model.local import check_removable, find
    from omnidrop_cli.model.local import remove as delete

    found = find(name)
    check_removable(found)
    size = sum(entry.size_bytes for entry in found)
    what = f"{one_line(name)}, {_size(size)} in {', '.join(one_line(str(entry.path)) for entry in found)}"
    if not sure.yes:
        if not sys.stdin.isatty():
            raise UsageError(f"this would delete {what}", "--yes does it without asking")
        typer.confirm(f"Delete {what}?", abort=True, err=True)
    delete(found)
    with Console(console) as screen:
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
        raise UsageError(f"{one_line(name)} has random weights, drawn again each time", "there is no file of it")
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
        "quant_head_mb": {quant: round(change) for quant, change in _head_change(entry).items()},
    }


def _needs(entry: Entry) -> dict[str, float]:
    """Megabytes for a minute of video by quantisation; a copy has its own only."""
    from omnidrop_cli.model.local import needed_mb

    if entry.sizes is None:
        return {}
    return {quant: needed_mb(entry.sizes, quant) for quant in (QUANTS if entry.quant == "none" else (entry.quant,)) if quant in QUANTS}


def _head_change(entry: Entry) -> dict[str, float]:
    """Megabytes that `--quant-head` adds to that, by quantisation; none for the small built-in model."""
    from omnidrop_cli.model.memory_estimate import head_change_mb

    return {} if entry.sizes is None or entry.kind == "builtin" else head_change_mb(entry.sizes.decoder)


def _table(found: list[Entry], gpu: int) -> DataTable:
    from omnidrop_cli.report.columns import Column, DataTable

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
