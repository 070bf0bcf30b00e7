"""Paths and addresses become decoded clips: fetch, then decode with the model's own bounds for what the request leaves open."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from omnidrop_cli.errors import UsageError
from omnidrop_cli.in_use import in_use
from omnidrop_cli.media.clip import decode_media
from omnidrop_cli.media.container import no_such_file
from omnidrop_cli.media.source import Fetched, fetch
from omnidrop_cli.media.subtitles import named_file, read_subtitles, subtitle_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from omnidrop_cli.config import MediaConfig, Request
    from omnidrop_cli.events import ProgressCallback
    from omnidrop_cli.outputs import Clip, FrameBounds

    Decode = Callable[[Fetched, MediaConfig, ProgressCallback], Clip]


def decode_fetched(source: Fetched, options: MediaConfig, progress: ProgressCallback) -> Clip:
    """The clip of a file. A file of subtitles has the clip's own clock, also where only a part of the clip was fetched."""
    wanted, part = options.subtitles, in_part(options, source.offset_s)
    if not source.offset_s or wanted is None or subtitle_file(source.path, wanted) is None:
        return _in_full(decode_media(source.path, part, progress), source)
    clip = _in_full(decode_media(source.path, replace(part, subtitles=None), progress), source)
    subtitles, notes = read_subtitles(source.path, wanted, options.start_s, options.end_s)
    facts = replace(clip.source, subtitles=None if subtitles is None else subtitles.about)
    return replace(clip, source=facts, subtitles=subtitles, warnings=(*clip.warnings, *notes))


def open_clips(
    request: Request, bounds: FrameBounds, progress: ProgressCallback, seconds: dict[str, float], decode: Decode = decode_fetched
) -> tuple[Clip, ...]:
    """Fetch and decode all media of a request. Options hold for each; a missing file is found before the first is decoded.

    Args:
        bounds: pixels of a frame, where the request gives none.
        seconds: receives the time of the stages "fetch", in addition to what it holds of it, and "decode".
        decode: `decode_fetched`, or one that runs it elsewhere.

    Raises:
        UsageError: one file of subtitles for several clips.
        MediaError: the media cannot be decoded.
        FetchError: the address cannot be fetched.
    """
    start = time.perf_counter()
    options = bounds.fill(request.media_options)
    if request.more and options.subtitles is not None and named_file(options.subtitles) is not None:
        raise UsageError("one file of subtitles cannot be that of several clips", "`subtitles` auto, or a language, reads each clip's own")
    sources = [fetched(media, request, options, progress) for media in request.all_media]
    began = time.perf_counter()
    clips = []
    for media, source in zip(request.all_media, sources, strict=True):
        progress.stage("decode", media if request.more else "")
        with in_use(source.path) if source.fetched_at is not None else nullcontext():  # a copy in the cache, which others may clean
            clip = decode(source, options, progress)
        if request.more:
            clip = replace(clip, warnings=tuple(f"{PurePath(media).name}: {warning}" for warning in clip.warnings))
        clips.append(clip)
    seconds["fetch"] = seconds.get("fetch", 0.0) + began - start
    seconds["decode"] = time.perf_counter() - began
    for clip in clips:
        for warning in clip.warnings:
            progress.warn(warning)
    return tuple(clips)


def open_clip(request: Request, bounds: FrameBounds, progress: ProgressCallback) -> tuple[Clip, dict[str, float]]:
    """The clip of a request that has one, and the seconds that fetching and decoding it took. See `open_clips`."""
    seconds: dict[str, float] = {}
    (clip,) = open_clips(request, bounds, progress, seconds)
    return clip, seconds


def fetched(media: str, request: Request, options: MediaConfig, progress: ProgressCallback) -> Fetched:
    """The file of one of a request's media. Raises `MediaError` where there is none, `FetchError` where it cannot be fetched."""
    progress.stage("fetch", media)
    section = (options.start_s, options.end_s)
    source = fetch(media, request.fetch, section=section, subtitles=options.subtitles, offline=request.model.offline, progress=progress)
    if not source.path.exists():
        raise no_such_file(source.path)
    return source


def in_part(options: MediaConfig, offset_s: float) -> MediaConfig:
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
