"""Where a clip comes from: a path stays what it is, an address becomes a file of the cache.

A copy in the cache is checked with the server where that is possible (a conditional request), fetched again where it has changed, and dated
in the report. An interrupted download goes on where it stopped.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from omnidrop_cli import fileio
from omnidrop_cli.config import FetchConfig
from omnidrop_cli.errors import FetchError, MediaError
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.media.address import is_unchanged, validators
from omnidrop_cli.media.download import Refused, download
from omnidrop_cli.media.download_cache import Copy, DownloadCache, Origin, Section
from omnidrop_cli.media.site_subtitles import fetch_subtitles
from omnidrop_cli.media.subtitles import TAG
from omnidrop_cli.media.ytdlp import host_of

BUNDLED = Path(__file__).parent.parent / "nano" / "assets" / "demo"
"""Clips in the package, ten seconds each, so that a first question needs no file: `demo` and `demo2`."""

OLD_S = 86400.0
"""A copy that could not be checked and is older than this is worth a word."""

CHECK_AFTER_S = 60.0
"""A copy that was checked this recently is not checked again: one run may open it many times."""

_WAIT_S = 0.5


@dataclass(frozen=True, slots=True)
class Fetched:
    """A clip as a file of this disk.

    Attributes:
        path: The file.
        offset_s: Second of the clip at which the file begins: 0 unless only a part was fetched.
        fetched_at: When a copy of an address was fetched, ISO 8601 in UTC; None for a file.
        warnings: What the user should know of it.
    """

    path: Path
    offset_s: float = 0.0
    fetched_at: str | None = None
    warnings: tuple[str, ...] = ()


def is_url(media: str) -> bool:
    return re.match(r"https?://", media, re.IGNORECASE) is not None


def bundled(media: str) -> Path | None:
    """The clip of the package that `media` names; None for every other name, and where a file of that name exists."""
    path = BUNDLED / f"{media}.mp4"
    return path if media.isalnum() and os.path.isfile(path) and not os.path.exists(media) else None


def irregular(path: str | Path) -> str | None:
    """What `path` leads to where that is neither a regular file nor a folder: "a pipe". None also where there is nothing.

    A decoder opens a clip several times and reads it out of order, which a pipe forbids; a device may have no end.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return None
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    return kinds.get(stat.S_IFMT(mode))


def fetch(
    media: str,
    config: FetchConfig = FetchConfig(),
    *,
    section: tuple[float, float | None] | None = None,
    subtitles: str | None = None,
    offline: bool = False,
    progress: ProgressCallback = SILENT,
    cache: DownloadCache | None = None,
) -> Fetched:
    """A file that holds `media`: its own, a bundled clip's, or a copy of an address.

    Args:
        media: A path, the name of a bundled clip, or an http(s) address.
        config: Whether to fetch again, and cookies.
        section: The seconds that are wanted (an end of None is the clip's): a chance to fetch no more.
        subtitles: "auto" or a language: those that the site has are put next to the copy. A file is left to the caller.
        offline: Use the cache only.
        progress: Called with the progress of the download.
        cache: The copies; by default the user's.

    Raises:
        MediaError: The path leads to a pipe, a socket or a device.
        FetchError: The address cannot be fetched.
    """
    if not is_url(media):
        if (kind := irregular(media)) is not None:
            raise MediaError(f"{media} is {kind}, not a file", "save the clip to a file first: it is read more than once and out of order")
        return Fetched(bundled(media) or Path(media))
    host_of(media)  # a word on a broken address before anything else
    cache = cache or DownloadCache()
    copy, checked = _copy_of(media, config, _whole_seconds(section), offline, progress, cache)
    fetched = _fetched(copy, checked=checked)
    if subtitles is None or offline or not _site_may_have(copy, subtitles):
        return fetched
    problem = fetch_subtitles(copy, subtitles, config)
    if problem is not None:
        return replace(fetched, warnings=(*fetched.warnings, problem))
    with suppress(OSError):
        cache.note(replace(copy.origin, subtitles=(*copy.origin.subtitles, subtitles)))
    return fetched


def _copy_of(
    media: str, config: FetchConfig, wanted: Section | None, offline: bool, progress: ProgressCallback, cache: DownloadCache
) -> tuple[Copy, bool]:
    """The copy of an address, fetched where there is none or it is out of date; and whether it is known to be what the address gives."""
    copy = cache.find(media, wanted)
    if offline:
        if copy is None:
            message = f"this clip from {host_of(media)} has not been downloaded before, and `offline` forbids it now"
            raise FetchError(message, "run once without `offline`")
        return copy, False
    if copy is not None and not config.refresh:
        unchanged = True if copy.age_s < CHECK_AFTER_S else is_unchanged(copy, config)
        if unchanged:
            with suppress(OSError):
                cache.note(replace(copy.origin, checked_at=time.time()))
        if unchanged is not False:
            return copy, bool(unchanged)
        progress.stage("fetch", f"{media} has changed")
    try:
        return _download(media, wanted, config, progress, cache), True
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = "set XDG_CACHE_HOME to a folder you can write to, and check the free space"
        raise FetchError(f"downloads cannot be kept in {cache.folder} ({reason})", hint) from error


def _site_may_have(copy: Copy, subtitles: str) -> bool:
    """Whether a site has to be asked for subtitles: not for a file of them, nor about a plain file, nor once more."""
    by_language = subtitles == "auto" or re.fullmatch(TAG, subtitles) is not None
    return by_language and not copy.origin.validators and subtitles not in copy.origin.subtitles


def _download(url: str, section: Section | None, config: FetchConfig, progress: ProgressCallback, cache: DownloadCache) -> Copy:
    """Fetch into the cache, going on with what an interrupted run left. Raises `FetchError`, `OSError`."""
    began = time.time()
    place = cache.part(url, section)
    with _alone(place, url, progress):
        found = cache.find(url, section)  # another process may have fetched it meanwhile
        if found is not None and found.origin.fetched_at >= began:
            shutil.rmtree(place, ignore_errors=True)
            return found
        facts = validators(url, config)
        _forget_other_versions(place, facts)
        length = (facts or {}).get("length", "")
        try:
            got = download(url, place, section, config, progress, int(length) if length.isdecimal() else None)
        except BaseException as error:
            if isinstance(error, Refused) or not any(part.stat().st_size for part in place.glob("*.part")):
                shutil.rmtree(place, ignore_errors=True)
            raise
        origin = Origin(url, got.section, time.time(), time.time(), facts or {} if got.plain else {})
        copy = cache.keep(got.path, origin)
        shutil.rmtree(place, ignore_errors=True)
        return copy


@contextmanager
def _alone(place: Path, url: str, progress: ProgressCallback) -> Iterator[None]:
    """A block in which the folder is this process's own; waits for another one that is downloading the same."""
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(fileio.locked_folder(place))
                break
            except BlockingIOError:
                progress.detail(f"{host_of(url)}: another process is downloading this clip")
                time.sleep(_WAIT_S)
        yield


def _forget_other_versions(place: Path, facts: dict[str, str] | None) -> None:
    """Empty the folder of an unfinished download unless the file it began is still the same: halves of two versions make no clip.

    Where the server gives a file neither a tag nor a date, it may be another one.
    """
    note = place / "version.json"
    now = json.dumps(facts, sort_keys=True)
    try:
        same = note.read_text(encoding="utf-8") == now
    except (OSError, ValueError):
        same = False
    if not same or (facts is not None and not {"etag", "last_modified"} & facts.keys()):
        for file in place.iterdir():
            if file.name.startswith(("clip", "section")):
                file.unlink()
        note.write_text(now, encoding="utf-8")


def _whole_seconds(section: tuple[float, float | None] | None) -> Section | None:
    """The part in whole seconds, so that questions about nearly the same one share a copy; None where it has no end."""
    if section is None or section[1] is None:
        return None
    return float(math.floor(section[0])), float(math.ceil(section[1]))


def _fetched(copy: Copy, *, checked: bool) -> Fetched:
    offset_s = 0.0 if copy.origin.section is None else copy.origin.section[0]
    old = () if checked or copy.age_s < OLD_S else (f"the copy of {copy.origin.url} is {_age(copy.age_s)} old; `refresh` fetches it again",)
    return Fetched(copy.path, offset_s, copy.fetched_at, old)


def _age(seconds: float) -> str:
    days = int(seconds // 86400)
    return f"{days} day{'s' if days != 1 else ''}"
