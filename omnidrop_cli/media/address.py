"""What can be asked about an address without fetching the clip: whether it has changed, and whether it is a playlist."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from omnidrop_cli.media.ytdlp import base_options

if TYPE_CHECKING:
    from omnidrop_cli.config import FetchConfig
    from omnidrop_cli.media.download_cache import Copy

CHECK_TIMEOUT_S = 10
"""How long a server may take to say whether a file has changed."""

MOST_ENTRIES = 10_000
"""Clips of one playlist."""


def validators(url: str, config: FetchConfig) -> dict[str, str] | None:
    """What tells this version of the file at `url` from a later one: `etag`, `last_modified`, `length`, as far as the server says them.

    None for the page of a site that yt-dlp knows: what it gives stays the same.
    """
    if not is_plain(url):
        return None
    with suppress(Exception):  # the download will meet the same trouble and say so
        return _head(url, config, {})[1]
    return {}


def is_unchanged(copy: Copy, config: FetchConfig) -> bool | None:
    """Whether the address still gives what `copy` holds; None where that cannot be found out."""
    known = copy.origin.validators
    names = {"etag": "If-None-Match", "last_modified": "If-Modified-Since"}
    condition = {names[name]: value for name, value in known.items() if name in names}
    if not known:
        return None
    from yt_dlp.networking.exceptions import HTTPError

    try:
        _, found = _head(copy.origin.url, config, condition)
    except HTTPError as error:
        return True if error.status == 304 else None
    except Exception:
        return None
    for name in ("etag", "last_modified"):  # the stronger first
        if name in known and name in found:
            return known[name] == found[name]
    return False if known.get("length") != found.get("length", known.get("length")) else None


def playlist(url: str, config: FetchConfig) -> list[str] | None:
    """The addresses of a playlist's clips; None for an address of one clip, and where that cannot be found out.

    Known players and addresses that end in a file name are not asked.
    """
    import yt_dlp

    extractor = _extractor(url)
    if extractor is None or extractor.is_single_video(url) or (is_plain(url) and _names_a_file(url)):
        return None
    options = {**base_options(config), "extract_flat": "in_playlist", "noplaylist": True, "playlistend": MOST_ENTRIES}
    try:
        with yt_dlp.YoutubeDL(options) as downloader:
            found = downloader.extract_info(url, download=False)
            entries = list(found.get("entries") or ()) if found and found.get("_type") in ("playlist", "multi_video") else None
    except Exception:  # the clip's own row will say what is wrong
        return None
    if entries is None:
        return None
    urls = (entry.get("url") or entry.get("webpage_url") for entry in entries if entry)
    return [address for address in urls if isinstance(address, str) and re.match(r"https?://", address, re.IGNORECASE)]


def _head(url: str, config: FetchConfig, headers: Mapping[str, str]) -> tuple[int, dict[str, str]]:
    """Status and validators of a HEAD request. Raises yt-dlp's errors."""
    import yt_dlp
    from yt_dlp.networking import HEADRequest

    with yt_dlp.YoutubeDL({**base_options(config), "socket_timeout": CHECK_TIMEOUT_S}) as downloader:
        response = downloader.urlopen(HEADRequest(url, headers=dict(headers)))
        try:
            names = {"etag": "ETag", "last_modified": "Last-Modified", "length": "Content-Length"}
            said = {name: response.headers.get(header) for name, header in names.items()}
            return response.status, {name: value for name, value in said.items() if value}
        finally:
            response.close()


def _extractor(url: str) -> Any:
    from yt_dlp.extractor import gen_extractor_classes

    return next((extractor for extractor in gen_extractor_classes() if extractor.suitable(url)), None)


def is_plain(url: str) -> bool:
    """Whether no site of yt-dlp's list claims the address: it may be that of a file itself."""
    extractor = _extractor(url)
    return extractor is not None and bool(extractor.ie_key() == "Generic")


def _names_a_file(url: str) -> bool:
    return re.fullmatch(r"\.\w{2,4}", PurePosixPath(urlsplit(url).path).suffix) is not None
