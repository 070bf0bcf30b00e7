"""yt-dlp: one address becomes one file, or one line that says why not.

A download is one file with pictures and sound together wherever the site has one, so that no ffmpeg binary is needed, and at most 720 lines
high, since frames are shrunk far below that. With an ffmpeg binary, a part of a long mp4 is fetched alone.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidrop_cli.errors import FetchError, MediaError
from omnidrop_cli.media.container import audio_track, find_source, open_media, video_track
from omnidrop_cli.media.ytdlp import BY_HAND, base_options, explained, first_clip, host_of

if TYPE_CHECKING:
    from omnidrop_cli.config import FetchConfig
    from omnidrop_cli.events import ProgressCallback
    from omnidrop_cli.media.download_cache import Section

MAX_BYTES = 2 * 10**9

_SECTION_SHARE = 0.5
"""A part longer than this share of the clip is not worth fetching alone."""

_LONG_S, _LARGE_BYTES = 120.0, 30 * 10**6
"""Clips shorter, or smaller where the length is unknown, are fetched whole."""

_SECTION_FORMATS = (".mp4", ".m4a", ".mov")
"""Containers whose edit lists let a part begin exactly where it was asked for; in others it begins at an unknown key frame."""

_MUXED = "b[height<=?720]"
_MERGED = "bv*[height<=?720]+ba"  # needs an ffmpeg binary
_ANYTHING = "b/ba/bv"
_FOR_SECTIONS = "b[height<=?720][ext=mp4]/bv*[height<=?720][ext=mp4]+ba[ext=m4a]"


class Refused(FetchError):
    """What arrived, or would arrive, is of no use: there is nothing to resume."""


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that holds a clip. `section` is the part of it, None for all; `plain` says whether the address is that of a file itself."""

    path: Path
    section: Section | None
    plain: bool


def download(
    url: str, place: Path, section: Section | None, config: FetchConfig, progress: ProgressCallback, length: int | None = None
) -> Downloaded:
    """Fetch the clip at `url` into the folder `place`, going on with what lies there.

    Args:
        url: The address.
        place: A folder of this process.
        section: The seconds that are wanted, as a chance to fetch less; None for all of the clip.
        config: Cookies and limits.
        progress: Called with the progress of the download.
        length: Bytes of the file, where the server has said so.

    Raises:
        FetchError: The clip cannot be fetched; `Refused` where nothing that has arrived is of use.
    """
    import yt_dlp

    host = host_of(url)
    options = base_options(config) | {
        "format": "/".join((_MUXED, *([_MERGED] if shutil.which("ffmpeg") else []), _ANYTHING)),
        "outtmpl": str(place / "clip-%(format_id)s.%(ext)s"),
        "playlist_items": "1",
        "match_filter": yt_dlp.utils.match_filter_func("!is_live"),
        "progress_hooks": [lambda state: _progress(state, host, progress)],
        "retries": 3,
        "fixup": "never",
        "updatetime": False,
    }
    try:
        if section is not None and (part := _section(url, place, section, options, length)) is not None:
            return part
        with yt_dlp.YoutubeDL(options) as downloader:
            info = first_clip(downloader.extract_info(url))
    except (yt_dlp.utils.YoutubeDLError, OSError, ValueError) as error:
        raise explained(host, str(error)) from error
    return Downloaded(_clip_in(place, host), None, plain=bool(info.get("direct")))


def _section(url: str, place: Path, section: Section, options: Mapping[str, Any], length: int | None) -> Downloaded | None:
    """A file of its own for a part of a long clip; None where that is not possible or not worth it. Raises yt-dlp's errors."""
    import yt_dlp

    if not shutil.which("ffmpeg"):
        return None
    with yt_dlp.YoutubeDL({**options, "format": f"{_FOR_SECTIONS}/{options['format']}"}) as downloader:
        info = downloader.extract_info(url, download=False)
        if not _worth_a_section(first_clip(info), section, length):
            return None
        downloader.params["download_ranges"] = yt_dlp.utils.download_range_func(None, [section])
        downloader.params["outtmpl"]["default"] = str(place / "section.%(ext)s")
        with suppress(yt_dlp.utils.YoutubeDLError):
            downloader.process_ie_result(downloader.sanitize_info(info), download=True)
    found = next((file for file in place.glob("section.*") if file.suffix in _SECTION_FORMATS), None)
    if found is not None and _is_about(found, section[1] - section[0]):
        return Downloaded(found, section, bool(first_clip(info).get("direct")))
    for file in place.glob("section.*"):
        file.unlink()
    return None


def _worth_a_section(info: Mapping[str, Any], section: Section, length: int | None) -> bool:
    """Whether the clip is in a container that can be cut exactly, and so long that the part saves much."""
    parts = info.get("requested_formats") or [info]
    if any(f".{part.get('ext')}" not in _SECTION_FORMATS for part in parts):
        return False
    duration, size = info.get("duration"), sum(part.get("filesize") or part.get("filesize_approx") or 0 for part in parts)
    if duration:
        return bool(section[1] - section[0] <= _SECTION_SHARE * duration and duration > _LONG_S)
    return bool((size or length or 0) > _LARGE_BYTES)


def _is_about(file: Path, seconds: float) -> bool:
    try:
        with open_media(find_source(file)) as container:
            return 0 < (container.duration or 0) / 1e6 <= seconds + 1
    except MediaError:
        return False


def _clip_in(place: Path, host: str) -> Path:
    """The finished file in `place`. Raises `Refused` where there is none, or where it holds no clip."""
    files = [
        file for file in place.iterdir() if file.name.startswith("clip-") and file.suffix not in (".part", ".ytdl") and file.stat().st_size
    ]
    if not files:
        raise Refused(f"{host} sent no clip", "live streams and empty files cannot be used; download the part you need")
    file = max(files, key=lambda file: file.stat().st_size)
    try:
        with open_media(find_source(file)) as container:
            if video_track(container) is not None or audio_track(container) is not None:
                return file
    except MediaError:
        pass
    page = re.match(rb"\s*(<!doctype html|<html|<\?xml|\{)", file.read_bytes()[:512], re.IGNORECASE)
    what = "a page of text" if page else "a file without pictures and sound"
    raise Refused(f"{host} sent {what} instead of a clip", f"open the address in a browser: it may want a login; or {BY_HAND}")


def _progress(state: Mapping[str, Any], host: str, progress: ProgressCallback) -> None:
    done, total = state.get("downloaded_bytes") or 0, state.get("total_bytes")
    if max(done, total or 0) > MAX_BYTES:
        raise Refused(f"the clip from {host} is larger than {MAX_BYTES / 1e9:g} GB", f"give `start_s` and `end_s`, or {BY_HAND}")
    total = total or state.get("total_bytes_estimate")
    progress.advance(done, total)
    size = f"{done / 1e6:.1f} of {total / 1e6:.1f} MB" if total else f"{done / 1e6:.1f} MB"
    rate = f", {state['speed'] / 1e6:.1f} MB/s" if state.get("speed") else ""
    left = f", {state['eta']:.0f} s left" if state.get("eta") else ""
    progress.detail(f"{host}: {size}{rate}{left}")
