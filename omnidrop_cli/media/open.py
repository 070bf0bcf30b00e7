"""A path or URL becomes a decoded clip: fetch, then decode with the model's own bounds for what the request leaves open."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from omnidrop_cli.in_use import in_use
from omnidrop_cli.media.clip import decode_media
from omnidrop_cli.media.source import Fetched, fetch

if TYPE_CHECKING:
    from omnidrop_cli.config import MediaConfig, Request
    from omnidrop_cli.events import ProgressCallback
    from omnidrop_cli.outputs import Clip, FrameBounds


def open_clip(request: Request, bounds: FrameBounds, progress: ProgressCallback, seconds: dict[str, float]) -> Clip:
    """Fetch and decode the media of a request.

    Args:
        bounds: pixels of a frame, where the request gives none.
        seconds: receives the time of the stages "fetch" and "decode".

    Raises:
        MediaError: the media cannot be decoded.
        FetchError: the address cannot be fetched.
    """
    progress.stage("fetch", request.media)
    start = time.perf_counter()
    options = bounds.fill(request.media_options)
    section = (options.start_s, options.end_s)
    source = fetch(request.media, request.fetch, section=section, offline=request.model.offline, progress=progress)
    fetched = time.perf_counter()
    progress.stage("decode")
    with in_use(source.path) if source.fetched_at is not None else nullcontext():  # a copy in the cache, which others may clean
        clip = _in_full(decode_media(source.path, _in_part(options, source.offset_s), progress), source)
    seconds["fetch"] = fetched - start
    seconds["decode"] = time.perf_counter() - fetched
    for warning in clip.warnings:
        progress.warn(warning)
    return clip


def _in_part(options: MediaConfig, offset_s: float) -> MediaConfig:
    """The options by the clock of a file that begins `offset_s` into the clip."""
    if not offset_s:
        return options
    return replace(options, start_s=options.start_s - offset_s, end_s=None if options.end_s is None else options.end_s - offset_s)


def _in_full(clip: Clip, source: Fetched) -> Clip:
    """The clip by its own clock, with what is known of the copy it was read from."""
    times = clip.frame_times_s
    return replace(
        clip,
        source=replace(clip.source, fetched_at=source.fetched_at),
        frame_times_s=times if times is None else times + source.offset_s,
        start_s=clip.start_s + source.offset_s,
        warnings=(*clip.warnings, *source.warnings),
    )
