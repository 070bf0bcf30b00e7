"""A URL becomes a file on this disk, once; a path stays what it is.

Knows: yt-dlp's Python API, the cache folder, and what the usual refusals mean. Does not know: media (`probe.py` opens the file).

A download is one file with pictures and sound together wherever the site has one, so that no ffmpeg binary is needed, and at most
720 lines high, since frames are shrunk far below that. It appears in the cache under its final name only when it is complete.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from omnidrop_cli import paths
from omnidrop_cli.errors import FetchError, MediaError
from omnidrop_cli.events import SILENT, Observer

BUNDLED = Path(__file__).parent.parent / "nano" / "assets" / "demo"
"""Clips in the package, ten seconds each, so that a first question needs no file: `demo` and `demo2`."""

_MUXED = "b[height<=?720]"
_MERGED = "bv*[height<=?720]+ba"  # needs an ffmpeg binary
_ANYTHING = "b/ba/bv"

_BY_HAND = "download the clip yourself, and give the file"

# What yt-dlp and the network say, and what a user can do about it; the first match counts.
_HINTS: tuple[tuple[str, str], ...] = (
    (r"HTTP Error 4(00|04|10)|does not exist|removed", "check the address; the clip may be gone"),
    (r"javascript|js runtime|n challenge|nsig|not a bot", f"update yt-dlp and install deno, which this site needs, or {_BY_HAND}"),
    (
        r"HTTP Error 40[13]|sign in|log ?in|private|cookies",
        f"the site refuses: update yt-dlp (pip install -U 'yt-dlp[default]'), or {_BY_HAND}",
    ),
    (r"unsupported url|no video formats|no media|requested format", f"yt-dlp finds no clip at this address: {_BY_HAND}"),
    (r"no space left|errno 28", "free some disk space"),
    (
        r"resolve|name or service|refused|timed out|unreachable|no route|network|connection|getaddrinfo|ssl",
        "check the network and the address; a local file needs neither",
    ),
)


def is_url(media: str) -> bool:
    return re.match(r"https?://", media, re.IGNORECASE) is not None


def bundled(media: str) -> Path | None:
    """The clip of the package that `media` names; None for every other name, and where a file of that name exists."""
    path = BUNDLED / f"{media}.mp4"
    return path if media.isalnum() and path.is_file() and not Path(media).exists() else None


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
    media: str, *, cache_dir: Path | None = None, offline: bool = False, max_bytes: int = 2 * 10**9, observer: Observer = SILENT
) -> Path:
    """The path of `media`: itself, a bundled clip's, or a downloaded copy from the cache or the network.

    Raises:
        MediaError: The path leads to a pipe, a socket or a device.
        FetchError: The address cannot be downloaded.
    """
    if not is_url(media):
        if (kind := irregular(media)) is not None:
            raise MediaError(f"{media} is {kind}, not a file", "save the clip to a file first: it is read more than once and out of order")
        return bundled(media) or Path(media)
    folder = cache_dir or paths.downloads()
    key = hashlib.sha256(media.encode()).hexdigest()[:24]
    if cached := next(folder.glob(f"{key}.*"), None):
        return cached
    try:
        host = urlsplit(media).hostname or media
    except ValueError:
        raise FetchError(f"{media} is not a valid address", "check the address; a path needs no http://") from None
    if offline:
        raise FetchError(
            f"this clip from {host} has not been downloaded before, and --offline forbids it now", "run once without --offline"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        workplace = tempfile.TemporaryDirectory(dir=folder, prefix=f".{key}-", ignore_cleanup_errors=True)
    except OSError as error:
        raise FetchError(
            f"downloads cannot be kept in {folder} ({(error.strerror or str(error)).lower()})",
            "set XDG_CACHE_HOME to a folder you can write to",
        ) from error
    with workplace as place:
        partial = _download(media, host, Path(place), max_bytes, observer)
        target = folder / f"{key}{partial.suffix or '.media'}"
        os.replace(partial, target)
    return target


def _download(url: str, host: str, place: Path, max_bytes: int, observer: Observer) -> Path:
    """Downloads into the empty folder `place`. Raises `FetchError`."""
    import yt_dlp

    def progress(state: dict[str, Any]) -> None:
        done, total = state.get("downloaded_bytes") or 0, state.get("total_bytes")
        if max(done, total or 0) > max_bytes:
            raise FetchError(f"the clip from {host} is larger than {max_bytes / 1e9:g} GB", _BY_HAND)
        observer.advance(done, total or state.get("total_bytes_estimate"))

    formats = (_MUXED, *([_MERGED] if shutil.which("ffmpeg") else []), _ANYTHING)
    options = {
        "format": "/".join(formats),
        "outtmpl": str(place / "clip.%(ext)s"),
        "noplaylist": True,
        "playlist_items": "1",
        "match_filter": yt_dlp.utils.match_filter_func("!is_live"),
        "progress_hooks": [progress],
        "logger": _Silence(),
        "quiet": True,
        "noprogress": True,
        "no_color": True,
        "retries": 3,
        "socket_timeout": 20,
        "fixup": "never",
        "updatetime": False,
    }
    try:
        with yt_dlp.YoutubeDL(options) as downloader:
            downloader.extract_info(url)
    except yt_dlp.utils.YoutubeDLError as error:
        raise _explained(host, str(error)) from error
    except (OSError, ValueError) as error:
        raise _explained(host, str(error)) from error
    files = [file for file in place.iterdir() if file.suffix not in (".part", ".ytdl") and file.stat().st_size]
    if not files:
        raise FetchError(f"{host} sent no clip", "live streams and empty files cannot be used; download the part you need")
    return max(files, key=lambda file: file.stat().st_size)


def _explained(host: str, message: str) -> FetchError:
    """One clean line out of a downloader's message, and what to do."""
    line = re.sub(r"\x1b\[[0-9;]*m|[\x00-\x1f\x7f]", " ", message)
    line = re.sub(r"^ERROR:\s*|\[[\w:+-]+\]\s*|;? ?please report this issue.*$|\(caused by .*$", "", line, flags=re.IGNORECASE).strip(" .;")
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, message, re.IGNORECASE)), None)
    return FetchError(f"{host}: {line[:300]}", hint or _BY_HAND)


class _Silence:
    """yt-dlp's logger: errors come as exceptions, and nothing else may reach the terminal."""

    def debug(self, message: str) -> None: ...
    def info(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def error(self, message: str) -> None: ...
