"""What every use of yt-dlp shares: quiet options, cookies, and its errors as one line with a hint."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from contextlib import redirect_stderr
from optparse import OptParseError
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from omnidrop_cli.errors import FetchError, UsageError

if TYPE_CHECKING:
    from omnidrop_cli.config import FetchConfig

BY_HAND = "download the clip yourself, and give the file"

# What yt-dlp and the network say, and what a user can do about it; the first match counts.
_HINTS: tuple[tuple[str, str], ...] = (
    (r"HTTP Error 4(00|04|10)|does not exist|removed", "check the address; the clip may be gone"),
    (r"javascript|js runtime|n challenge|nsig|not a bot", f"update yt-dlp and install deno, which this site needs, or {BY_HAND}"),
    (
        r"HTTP Error 40[13]|sign in|log ?in|private|cookies",
        f"the site refuses: `cookies_from_browser=BROWSER` shows it your session; update yt-dlp; or {BY_HAND}",
    ),
    (r"unsupported url|no video formats|no media|requested format", f"yt-dlp finds no clip at this address: {BY_HAND}"),
    (r"no space left|errno 28", "free some disk space"),
    (
        r"resolve|name or service|refused|timed out|unreachable|no route|network|connection|getaddrinfo|ssl|bytes read",
        "check the network and the address, then try again: what has arrived is kept; a local file needs no network",
    ),
)


def host_of(url: str) -> str:
    """The host of an address, for messages. Raises `FetchError` for an address that is none."""
    try:
        url.encode()  # bytes that are no text are lone surrogates
        return urlsplit(url).hostname or url
    except ValueError:
        raise FetchError(f"{url} is not a valid address", "check the address; a path needs no http://") from None


def base_options(config: FetchConfig) -> dict[str, Any]:
    """Options of every call of yt-dlp. Raises `UsageError` for cookies that do not exist."""
    options = {
        "logger": _Silence(),
        "quiet": True,
        "noprogress": True,
        "no_color": True,
        "noplaylist": True,
        "socket_timeout": 20,
    }
    if config.cookies is not None:
        if not Path(config.cookies).is_file():
            raise UsageError(f"`cookies={config.cookies}`: no such file", "give a file of cookies in Netscape's format")
        options["cookiefile"] = str(config.cookies)
    if config.cookies_from_browser is not None:
        options["cookiesfrombrowser"] = _browser(config.cookies_from_browser)
    return options


def _browser(text: str) -> Any:
    """BROWSER[+KEYRING][:PROFILE][::CONTAINER], read by yt-dlp itself. Raises `UsageError`."""
    import yt_dlp

    try:
        with redirect_stderr(io.StringIO()):
            return yt_dlp.parse_options(["--cookies-from-browser", text]).ydl_opts["cookiesfrombrowser"]
    except (OptParseError, SystemExit, ValueError) as error:
        known = ", ".join(sorted(yt_dlp.cookies.SUPPORTED_BROWSERS))
        raise UsageError(f"`cookies_from_browser={text}` names no browser", f"one of {known}") from error


def explained(host: str, message: str) -> FetchError:
    """One clean line out of a downloader's message, and what to do."""
    line = re.sub(r"\x1b\[[0-9;]*m|[\x00-\x1f\x7f]", " ", message).strip()
    line = re.sub(r"^ERROR:\s*|\[[\w:+-]+\]\s*|;? ?please report this issue.*$|\(caused by .*$", "", line, flags=re.IGNORECASE)
    line = re.sub(r"^(none|na|undefined):\s*", "", line.strip(), flags=re.IGNORECASE).strip(" .;")
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, message, re.IGNORECASE)), None)
    return FetchError(f"{host}: {line[:300]}", hint or BY_HAND)


def first_clip(info: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The clip itself, where a page was taken for a list of one."""
    while info and info.get("entries"):
        info = next(iter(info["entries"]))
    return info or {}


class _Silence:
    """yt-dlp's logger: errors come as exceptions, and nothing else may reach the terminal."""

    def debug(self, message: str) -> None: ...
    def info(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def error(self, message: str) -> None: ...
