"""What omnidrop keeps on this disk: found, measured and removed, by kind.

Only entries with the names that omnidrop gives are found; other files in its folders, and links out of them, are left alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from omnidrop_cli import fileio, paths
from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.in_use import is_in_use


@dataclass(frozen=True, slots=True)
class CacheItem:
    """One thing that can be removed by itself.

    Attributes:
        name: What it is: an address, a model, a benchmark.
        path: Its file or folder.
        size_bytes: Bytes on the disk.
        used_at: Unix time of its last use, as far as the disk knows.
        revision: The commit of a model in the hub's cache.
    """

    kind: str
    name: str
    path: Path
    size_bytes: int
    used_at: float
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of item. `spare` ones are made again when they are needed, at the cost of time or a download alone."""

    about: str
    folder: Callable[[], Path]
    find: Callable[[Path], Iterator[tuple[str, Path]]]
    spare: bool = False


def items(kinds: Sequence[str]) -> list[CacheItem]:
    """The items of these kinds, kind by kind, the one unused for longest first."""
    found: list[CacheItem] = []
    for kind in kinds:
        made = _hub() if kind == "models" else _of_folder(kind)
        found += sorted(made, key=lambda item: (item.used_at, item.name))
    return found


def remove(item: CacheItem) -> bool:
    """Delete an item; False where a running process uses it. Raises `OmnidropError` where the disk refuses."""
    if is_in_use(item.path):
        return False
    try:
        if item.kind == "models":
            from omnidrop_cli.model.local import remove_revisions

            remove_revisions([item.revision or item.path.name])
        elif item.path.name.startswith(fileio.PART):
            fileio.remove_abandoned(item.path.parent, only=item.path)
            return not item.path.exists()
        elif item.kind == "clips":
            from omnidrop_cli.media.download_cache import DownloadCache

            DownloadCache(item.path.parent).remove(item.path)
        elif item.path.is_dir():
            fileio.remove_folder(item.path)
        else:
            item.path.unlink(missing_ok=True)
    except OSError as error:
        raise OmnidropError(f"{item.path} cannot be removed: {(error.strerror or str(error)).lower()}", "check its permissions") from error
    return True


def size_of(path: Path) -> int:
    """Bytes of a file, or of all below a folder; links are not followed."""
    size = path.stat().st_size if path.is_file() else 0
    for place, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):  # it went away meanwhile
                size += os.lstat(os.path.join(place, name)).st_size
    return size


# ---------------------------------------------------------------- kinds


def _clips(folder: Path) -> Iterator[tuple[str, Path]]:
    from omnidrop_cli.media.download_cache import DownloadCache

    for copy in DownloadCache(folder).copies():
        if re.fullmatch(r"[0-9a-f]{24}", copy.path.stem):
            yield copy.origin.url or "an unknown address", copy.path


def _features(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.glob("*.safetensors"):
        if re.fullmatch(r"[0-9a-f]{64}", path.stem):
            yield path.stem[:12], path


def _benchmarks(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.iterdir():
        if path.is_dir() and not path.name.startswith("."):
            yield path.name, path


def _copies(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.iterdir():
        if (path / "config.json").is_file() and not path.name.startswith("."):
            yield path.name, path


def _file(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield path.name, path


def _hub_folder() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _nothing(_: Path) -> Iterator[tuple[str, Path]]:
    return iter(())


KINDS: Mapping[str, Kind] = {
    "clips": Kind("clips from addresses", paths.downloads, _clips, spare=True),
    "features": Kind("encoder outputs", paths.features, _features, spare=True),
    "benchmarks": Kind("benchmark data", paths.benchmarks, _benchmarks),
    "models": Kind("models of the hub", _hub_folder, _nothing),
    "copies": Kind("quantized models", paths.models, _copies),
    "chat": Kind("lines typed in chat", paths.chat_history, _file),
}
"""Kinds by name. `clean` without a name takes the spare ones."""


def _of_folder(kind: str) -> Iterator[CacheItem]:
    """Items of a kind that lie in one folder of ours, unfinished ones included."""
    one = KINDS[kind]
    folder = one.folder()
    found = [*one.find(folder)] if folder.exists() else []
    if folder.is_dir():
        found += [("unfinished", path) for path in folder.glob(f"{fileio.PART}*")]
    for name, path in found:
        with suppress(FileNotFoundError):  # another process has just removed it
            if not path.is_symlink():
                yield CacheItem(kind, name, path, size_of(path), _used_at(kind, path))


def _hub() -> Iterator[CacheItem]:
    """Revisions in the hub's cache that are models of ours; those of other programs are left out."""
    from omnidrop_cli.model.local import cached

    for entry in cached():
        yield CacheItem("models", entry.name, entry.path, entry.size_bytes, entry.used_at, entry.revision)


def _used_at(kind: str, path: Path) -> float:
    """A clip's note is touched at each use, and so is a file of encoder outputs; of folders, the file that was read last counts."""
    if kind == "clips":
        path = note if (note := path.with_suffix(".json")).is_file() else path
    if not path.is_dir():
        return path.stat().st_mtime
    times = [max(stat.st_atime, stat.st_mtime) for file in path.rglob("*") if (stat := os.lstat(file)) and file.is_file()]
    return max(times, default=path.stat().st_mtime)
