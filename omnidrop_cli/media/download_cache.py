"""Downloaded clips on this disk: found by address, dated, and removed when they are too many.

A copy is two files, KEY.mp4 (or another suffix) and KEY.json, which says where it came from and how to recognise it, and the subtitles
that its site has (KEY.vtt, KEY.en.vtt). The note's modification time is when the copy was last used. An unfinished download is a folder
`.part-KEY`, kept for a week so that it can be resumed.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from omnidrop_cli import fileio, jsonl, paths
from omnidrop_cli.in_use import is_in_use
from omnidrop_cli.media.subtitles import FORMATS

LIMIT_BYTES = 20 * 10**9
"""All finished copies together; those unused for longest go first."""

IN_USE_S = 3600.0
"""A copy used this recently is never evicted."""

RESUMABLE_S = 7 * 86400.0
"""How long an unfinished download is kept."""

Section = tuple[float, float]
"""Seconds of the clip at which a copy begins and ends."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a copy came from.

    Attributes:
        url: The address.
        section: The part of the clip that was fetched; None for all of it.
        fetched_at: Unix time of the download.
        checked_at: Unix time at which the server last said that the file is unchanged; `fetched_at` where it was never asked.
        validators: What tells another version of a plain file: `etag`, `last_modified`, `length`. Empty for sites of videos.
        subtitles: What the site was asked for: "auto", languages.
    """

    url: str
    section: Section | None = None
    fetched_at: float = 0.0
    checked_at: float = 0.0
    validators: dict[str, str] = field(default_factory=dict)
    subtitles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Copy:
    """A finished download."""

    path: Path
    origin: Origin

    @property
    def age_s(self) -> float:
        """Seconds since the copy was known to be what the address gives."""
        return max(0.0, time.time() - max(self.origin.fetched_at, self.origin.checked_at))

    @property
    def fetched_at(self) -> str:
        """The time of the download, ISO 8601 in UTC."""
        return datetime.fromtimestamp(self.origin.fetched_at, timezone.utc).isoformat(timespec="seconds")


class DownloadCache:
    """The copies in one folder, by default the user's."""

    def __init__(self, folder: Path | None = None, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = folder or paths.downloads()
        self._limit_bytes = limit_bytes

    def find(self, url: str, section: Section | None = None) -> Copy | None:
        """The copy of an address that holds `section` (None: all of it), marked as used now."""
        for wanted in (None, section) if section is not None else (None,):
            if (path := self._file(_key(url, wanted))) is not None:
                with suppress(OSError):  # the note, not the clip: a decoder takes a changed time for a changed file
                    os.utime(path.with_suffix(".json"))
                return Copy(path, replace(self._origin(path, url, wanted), url=url))
        return None

    def part(self, url: str, section: Section | None) -> Path:
        """The folder of the unfinished download."""
        return self.folder / f"{fileio.PART}{_key(url, section)}"

    def keep(self, file: Path, origin: Origin) -> Copy:
        """Move a finished download into the cache, in place of an earlier copy, and evict others. Raises `OSError`."""
        key = _key(origin.url, origin.section)
        earlier = self._file(key)
        if earlier is not None:
            self._remove_subtitles(earlier)
        target = self.folder / f"{key}{file.suffix if file.suffix not in ('', '.json') else '.media'}"
        self.note(origin)
        os.replace(file, target)
        if earlier is not None and earlier != target:
            earlier.unlink(missing_ok=True)
        self.evict()
        return Copy(target, origin)

    def note(self, origin: Origin) -> None:
        """Write down where a copy comes from, without a password. Raises `OSError`."""
        address = urlsplit(origin.url)
        kept = replace(origin, url=address._replace(netloc=address.netloc.rpartition("@")[2]).geturl())
        with fileio.replacing(self.folder / f"{_key(origin.url, origin.section)}.json") as part:
            part.write_text(json.dumps(asdict(kept)), encoding="utf-8")

    def copies(self) -> Iterator[Copy]:
        """Every finished copy, in no order."""
        for path in self._files():
            yield Copy(path, self._origin(path, "", None))

    def remove(self, clip: Path) -> None:
        """Delete the copy whose file is `clip`, with its subtitles. Raises `OSError`."""
        self._remove_subtitles(clip)
        clip.unlink(missing_ok=True)
        clip.with_suffix(".json").unlink(missing_ok=True)

    def evict(self) -> None:
        """Remove copies unused for longest until the rest fits, and unfinished downloads that nobody resumed."""
        fileio.remove_abandoned(self.folder, older_than_s=RESUMABLE_S)
        used, now = 0, time.time()
        for used_at, path in sorted(((_used_at(path), path) for path in self._files()), reverse=True):
            used += path.stat().st_size
            if used > self._limit_bytes and now - used_at > IN_USE_S and not is_in_use(path):
                with suppress(OSError):
                    self.remove(path)

    def _remove_subtitles(self, clip: Path) -> None:
        for path in self.folder.glob(f"{clip.stem}.*"):
            if path.suffix in FORMATS:
                path.unlink(missing_ok=True)

    def _files(self) -> Iterator[Path]:
        if self.folder.is_dir():
            yield from (path for path in self.folder.iterdir() if _is_clip(path) and not path.name.startswith(".") and path.is_file())

    def _file(self, key: str) -> Path | None:
        return next(filter(_is_clip, self.folder.glob(f"{key}.*")), None)

    def _origin(self, path: Path, url: str, section: Section | None) -> Origin:
        """What is written down about a copy; for one without a (readable) note, its own time."""
        with suppress(OSError, ValueError):
            return _read(path.with_suffix(".json").read_bytes())
        return Origin(url, section, fetched_at=path.stat().st_ctime)


def _is_clip(path: Path) -> bool:
    return path.suffix != ".json" and path.suffix not in FORMATS


def _used_at(path: Path) -> float:
    """Unix time of a copy's last use: that of its note, else its own."""
    note = path.with_suffix(".json")
    return (note if note.is_file() else path).stat().st_mtime


def _key(url: str, section: Section | None) -> str:
    name = url if section is None else f"{url} {section[0]:.3f}-{section[1]:.3f}"
    return hashlib.sha256(name.encode()).hexdigest()[:24]


def _read(text: bytes) -> Origin:
    value: Any = jsonl.parse_json(text)
    if not isinstance(value, dict):
        raise ValueError("no object")
    section = jsonl.field(value, "section", list, type(None))
    if section is not None and not (len(section) == 2 and all(isinstance(second, (int, float)) for second in section)):
        raise ValueError("no section")
    validators = jsonl.field(value, "validators", dict)
    return Origin(
        jsonl.field(value, "url", str),
        None if section is None else (float(section[0]), float(section[1])),
        float(jsonl.field(value, "fetched_at", int, float)),
        float(jsonl.field(value, "checked_at", int, float)),
        {name: jsonl.field(validators, name, str) for name in validators},
        tuple(map(str, jsonl.field({"subtitles": [], **value}, "subtitles", list))),  # notes of earlier versions have none
    )
