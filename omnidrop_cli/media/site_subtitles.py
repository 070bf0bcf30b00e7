"""Subtitles that a site has of a clip, fetched by yt-dlp and put next to the clip's copy in the cache, where `subtitles.py` finds them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.fileio import write_bytes
from omnidrop_cli.media.subtitles import FORMATS, same_language
from omnidrop_cli.media.ytdlp import base_options, explained, first_clip, host_of

if TYPE_CHECKING:
    from omnidrop_cli.config import FetchConfig
    from omnidrop_cli.media.download_cache import Copy


def fetch_subtitles(copy: Copy, wanted: str, config: FetchConfig) -> str | None:
    """Put the subtitles that a site has of a copy next to it; nothing where it has none.

    Args:
        copy: A clip in the cache.
        wanted: "auto" or a language. Written subtitles go before automatic captions, of which "auto" takes those of the spoken language.
        config: Cookies.

    Returns:
        A warning where the site could not be asked.
    """
    import yt_dlp

    with tempfile.TemporaryDirectory(prefix="omnidrop-") as folder:
        options = base_options(config) | {
            "skip_download": True,
            "writesubtitles": True,
            "writeautomaticsub": True,
            "subtitlesformat": "/".join(suffix[1:] for suffix in FORMATS),
            "outtmpl": f"{folder}/clip.%(ext)s",
            "playlist_items": "1",
        }
        try:
            with yt_dlp.YoutubeDL(options) as downloader:
                info = first_clip(downloader.extract_info(copy.origin.url, download=False))
                language = next(_fitting(info, wanted), None)
                if language is None:
                    return None
                downloader.params["subtitleslangs"] = [re.escape(language)]
                downloader.process_ie_result(downloader.sanitize_info(info), download=True)
            for file in Path(folder).iterdir():
                tag = "" if wanted == "auto" else f".{wanted}"
                write_bytes(copy.path.with_name(f"{copy.path.stem}{tag}{file.suffix}"), file.read_bytes())
        except (yt_dlp.utils.YoutubeDLError, OSError, ValueError, OmnidropError) as error:
            return f"the site's subtitles were not fetched: {explained(host_of(copy.origin.url), str(error)).message}"
    return None


def _fitting(info: Mapping[str, Any], wanted: str) -> Iterator[str]:
    """Languages of a site's subtitles as it names them, the best first; those in formats that cannot be read are left out."""
    written, automatic = (
        [name for name, forms in (info.get(kind) or {}).items() if any(f".{form.get('ext')}" in FORMATS for form in forms)]
        for kind in ("subtitles", "automatic_captions")
    )
    language = info.get("language") if wanted == "auto" else wanted
    if language:
        yield from (name for name in written if same_language(name, language))
    if wanted == "auto":
        yield from written
        yield from (name for name in automatic if name.endswith("-orig"))
    if language:
        yield from (name for name in automatic if same_language(name, language))
