"""What tests of downloads do to a server and a cache."""

from __future__ import annotations

import os
import time

import pytest

from omnidrop_cli.config import FetchConfig
from omnidrop_cli.errors import FetchError
from omnidrop_cli.events import ProgressCallback
from omnidrop_cli.media.download_cache import DownloadCache, Origin
from omnidrop_cli.media.source import Fetched, fetch
from tests.media.http_server import Server


def get(server: Server, cache: DownloadCache, path: str = "/clip.mp4", config: FetchConfig = FetchConfig(), **more: object) -> Fetched:
    return fetch(server.url(path), config, cache=cache, **more)  # type: ignore[arg-type]


def left(cache: DownloadCache) -> list[str]:
    """Names in the cache's folder, notes of copies left out."""
    return sorted(path.name for path in cache.folder.iterdir() if path.suffix != ".json")


def age(cache: DownloadCache, seconds: float) -> None:
    """Make every copy older."""
    for copy in [*cache.copies()]:
        then = time.time() - seconds
        cache.note(Origin(copy.origin.url, copy.origin.section, then, then, copy.origin.validators))
        os.utime(copy.path.with_suffix(".json"), (then, then))


class Impatient(ProgressCallback):
    def advance(self, done: float, total: float | None) -> None:
        if done > 10_000:
            raise KeyboardInterrupt


def interrupt(server: Server, cache: DownloadCache) -> None:
    """A download of /big.mp4 that stops in the middle."""
    server.break_after = 60_000  # yt-dlp tries four times
    with pytest.raises(FetchError) as caught:
        get(server, cache, "/big.mp4")
    assert "what has arrived is kept" in (caught.value.hint or "")
    server.break_after = None
    assert len(left(cache)) == 1
