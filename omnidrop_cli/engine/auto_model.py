"""`auto` for one request: a smaller checkpoint where the clip is too long for the one that the GPU's free memory suggests.

In: the request. Out: the request with the checkpoint named, and one line that says why. Reads how long the clips are, and loads nothing.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from omnidrop_cli.errors import MediaError, OmnidropError
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.media.clip import plan_clip
from omnidrop_cli.media.open import fetched, in_part
from omnidrop_cli.model.clip_fit import ModelMemory, fit, spoken_length
from omnidrop_cli.model.names import AUTO_KEEP, auto_candidates, resolve
from omnidrop_cli.prompt.counts import count_audio_tokens, count_mel_frames, count_video_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from omnidrop_cli.config import MediaConfig, Request
    from omnidrop_cli.media.clip import ClipPlan
    from omnidrop_cli.media.source import Fetched

    Planner = Callable[[Path, MediaConfig], ClipPlan]


def for_clip(
    request: Request,
    plan: Planner = plan_clip,
    progress: ProgressCallback = SILENT,
    seconds: dict[str, float] | None = None,
    *,
    unpruned: bool = False,
) -> tuple[Request, str | None]:
    """Name a smaller checkpoint where `auto` would take one that the clip does not fit, and the smaller one fits.

    Where there is a choice, an address is fetched first: its copy is found again when the clip is decoded.

    Args:
        plan: `plan_clip`, or one that runs it elsewhere.
        progress: receives the progress of a download.
        seconds: receives the time of "fetch".
        unpruned: whether everything is kept once, whatever the request's method says.

    Returns:
        The request and the reason; the request as it was, and None, where `auto` was not asked for, where there is no choice, and where
        there is no clip that can be read.

    Raises:
        FetchError: the address cannot be fetched.
    """
    model = request.model
    memory, candidates = auto_candidates(model.device) if model.name == "auto" else (None, ())
    if memory is None or len(candidates) < 2:
        return request, None
    options = resolve(model).frame_bounds.fill(request.media_options)
    start = time.perf_counter()
    sources = _fetched(request, options, progress)
    if seconds is not None:
        seconds["fetch"] = time.perf_counter() - start
    media = None if sources is None else _media_tokens(sources, options, plan)
    keep = 1.0 if unpruned or request.method.name == "none" else request.method.keep or AUTO_KEEP
    sizes = {name: resolve(replace(model, name=name)).sizes for name in candidates}
    quant = "nf4" if model.quant == "auto" else model.quant
    models = {name: ModelMemory(known, quant, options) for name, known in sizes.items() if known is not None}
    fitting = [name for name in models if media is not None and fit(models[name].of_tokens(media, keep), memory.free) != "no"]
    first = candidates[0]
    if not fitting or first in fitting:
        return request, None  # where no checkpoint fits, the largest one reads the clip with less detail
    taken, share = fitting[0], "without pruning" if keep == 1 else f"at keep {keep:g}"
    longest = spoken_length(models[first].longest_s(keep, memory.free))
    reason = f"{taken} answers: in the {memory.free / 1e9:.1f} GB that are free, {first} holds {longest} of video {share}, and this is more"
    device = "cuda" if model.device == "auto" else model.device  # `auto` never runs a checkpoint on the CPU
    return replace(request, model=replace(model, name=taken, device=device)), reason


def _fetched(request: Request, options: MediaConfig, progress: ProgressCallback) -> list[Fetched] | None:
    """The files of all media; None where one is no file that can be read, which decoding explains. Raises `FetchError`."""
    try:
        return [fetched(media, request, options, progress) for media in request.all_media]
    except MediaError:
        return None


def _media_tokens(sources: Sequence[Fetched], options: MediaConfig, plan: Planner) -> int | None:
    """Audio and video tokens of all media; None where one cannot be planned, which decoding explains."""
    total = 0
    for source in sources:
        try:
            planned = plan(source.path, replace(in_part(options, source.offset_s), subtitles=None))
        except (OmnidropError, OSError):
            return None
        total += count_audio_tokens(count_mel_frames(planned.samples))
        if planned.frames is not None:
            total += count_video_tokens(len(planned.frames.packets), *planned.frames.size)
    return total
