"""A path or URL becomes a decoded clip: fetch, then decode with the model's own bounds for what the request leaves open."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from omnidrop_cli.media.clip import decode_media
from omnidrop_cli.media.source import fetch

if TYPE_CHECKING:
    from omnidrop_cli.config import Request
    from omnidrop_cli.events import Observer
    from omnidrop_cli.outputs import Clip, FrameBounds


def open_clip(request: Request, bounds: FrameBounds, observer: Observer, seconds: dict[str, float]) -> Clip:
    """Fetch and decode the media of a request.

    Args:
        bounds: pixels of a frame, where the request gives none.
        seconds: receives the time of the stages "fetch" and "decode".

    Raises:
        MediaError: the media cannot be had or decoded.
    """
    observer.stage("fetch", request.media)
    start = time.perf_counter()
    path = fetch(request.media, offline=request.model.offline, observer=observer)
    fetched = time.perf_counter()
    observer.stage("decode")
    clip = decode_media(path, bounds.fill(request.media_options), observer)
    seconds["fetch"] = fetched - start
    seconds["decode"] = time.perf_counter() - fetched
    for warning in clip.warnings:
        observer.warn(warning)
    return clip
