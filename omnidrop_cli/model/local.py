"""The models on this disk: the built-in one, those in the hub's cache, and quantised copies.

Lists where they are, how large they are and whether they are complete, and removes them. Copies live in `paths.models()`, by names that
`--model` takes. Does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from omnidrop_cli import paths
from omnidrop_cli.errors import ModelError, OmnidropError, UsageError
from omnidrop_cli.fileio import remove_folder
from omnidrop_cli.in_use import is_in_use
from omnidrop_cli.model.checkpoint import open_checkpoint
from omnidrop_cli.model.memory_estimate import guess
from omnidrop_cli.model.names import HUB_NAMES, NANO_DIRECTORY
from omnidrop_cli.model.sizes import ThinkerSizes
from omnidrop_cli.model.stored_config import read_json, thinker_section

TOKENS_PER_MINUTE = 30 * (50 + 288)
"""Audio and video tokens of a minute at two frames per second and 144 tokens a frame pair, as in the papers' tables."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A model on this disk.

    Attributes:
        name: what `--model` takes.
        quant: how it is stored.
        problem: set where it cannot load.
        used_at: Unix time at which a file of the hub's copy was last read, as far as the file system says; 0 for other models.
    """

    name: str
    kind: Literal["builtin", "hub", "copy"]
    path: Path
    size_bytes: int
    quant: str = "none"
    revision: str | None = None
    sizes: ThinkerSizes | None = None
    problem: str | None = None
    used_at: float = 0.0


def entries() -> list[Entry]:
    """Every model found: the built-in one, then hub models, then copies. Models of other kinds in the hub's cache are left out."""
    return [*_builtin(), *cached(), *_copies()]


def needed_mb(sizes: ThinkerSizes, quant: str, minutes: float = 1.0) -> float:
    """Peak megabytes (1e6 bytes) on a GPU for a clip of `minutes`, unpruned, in bfloat16 where not quantised."""
    tokens = round(minutes * TOKENS_PER_MINUTE)
    return guess(sizes, quant, [tokens] * sizes.decoder.num_layers).peak_mb


def find(name: str) -> list[Entry]:
    """The entries `name` stands for: several where the hub's cache holds several revisions. Raises `ModelError` for none."""
    found = [
        entry for entry in entries() if name in (entry.name, str(entry.path)) or (entry.kind == "hub" and HUB_NAMES.get(name) == entry.name)
    ]
    if not found:
        raise ModelError(f"{name} is not on this disk", "`omnidrop models list` shows what is; `omnidrop models pull` fetches")
    return found


def check_removable(found: list[Entry]) -> None:
    """Raises `UsageError` for the built-in model, `ModelError` for one that a running process has loaded."""
    for entry in found:
        if entry.kind == "builtin":
            raise UsageError("the built-in model is part of the program", "it is 10 MB or so; nothing else can be gained")
        if is_in_use(entry.path):
            raise ModelError(f"{entry.name} stays: a running process uses it", "end that process first")


def remove(found: list[Entry]) -> None:
    """Delete models from the disk, all or, where one is in use, none.

    Raises:
        UsageError: the built-in model is among them.
        ModelError: a running process uses one.
        OmnidropError: the disk refuses.
    """
    check_removable(found)
    try:
        for entry in found:
            if entry.kind == "copy":
                remove_folder(entry.path)
        commits = [entry.revision for entry in found if entry.kind == "hub" and entry.revision]
        if commits:
            remove_revisions(commits)
    except OSError as error:
        raise OmnidropError(f"{found[0].name} cannot be removed: {error}", "check the permissions of its folder") from error


def remove_revisions(commits: list[str]) -> None:
    """Delete revisions from the hub's cache, and the files that no other revision shares. Raises `OSError`."""
    from huggingface_hub import constants, scan_cache_dir

    scan_cache_dir(constants.HF_HUB_CACHE).delete_revisions(*commits).execute()


def _builtin() -> list[Entry]:
    if not (NANO_DIRECTORY / "config.json").is_file():
        return []
    return [_entry("nano", "builtin", NANO_DIRECTORY)]


def _copies() -> list[Entry]:
    folder = paths.models()
    if not folder.is_dir():
        return []
    return [
        _entry(path.name, "copy", path)
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and (path / "config.json").is_file()
    ]


def cached() -> list[Entry]:
    """The models in the hub's cache, every revision; those of other kinds are left out."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cache = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:
        return []
    found = []
    for repo in sorted((repo for repo in cache.repos if repo.repo_type == "model"), key=lambda repo: repo.repo_id):
        for revision in sorted(repo.revisions, key=lambda revision: -revision.last_modified):
            entry = _entry(repo.repo_id, "hub", revision.snapshot_path, revision.commit_hash, revision.size_on_disk)
            if entry.sizes is not None:
                found.append(replace(entry, used_at=max(repo.last_accessed, revision.last_modified)))
    return found


def _entry(name: str, kind: Literal["builtin", "hub", "copy"], path: Path, revision: str | None = None, size: int | None = None) -> Entry:
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if size is None else size
    sizes = _sizes(path)
    try:
        quant, problem = open_checkpoint(path).quant, None
    except ModelError as error:
        quant, problem = "none", error.message
    return Entry(name, kind, path, size, quant, revision, sizes, problem)


def _sizes(path: Path) -> ThinkerSizes | None:
    """None where the directory holds another kind of model, or no model at all."""
    try:
        config = read_json(path / "config.json")
        return None if config is None else ThinkerSizes.from_dict(thinker_section(config, str(path)))
    except (ModelError, ValueError):
        return None
