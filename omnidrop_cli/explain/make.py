"""One question under several methods, and its clip as pictures: everything a page shows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from omnidrop_cli.config import PruningConfig, Request
from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.explain.pictures import film_of, sound_of
from omnidrop_cli.explain.preview import MAX_FPS, encode_mp4, frames_of
from omnidrop_cli.explain.record import Explanation
from omnidrop_cli.outputs import Report

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from omnidrop_cli.engine.session import Session
    from omnidrop_cli.outputs import Clip

THUMBNAIL_PIXELS = 128 * 28 * 28
"""Most pixels of a frame that is decoded for pictures alone."""


def explain(
    request: Request, methods: Sequence[PruningConfig], *, full: bool = True, progress: ProgressCallback = SILENT
) -> tuple[Explanation, Clip | None]:
    """Answer under every method, and without pruning where `full`; decoding and both encoders run once.

    Returns:
        The explanation without a playable clip (`with_preview`, `with_link`), and the decoded clip; None, and no pictures, where the
        question is about several.

    Raises:
        OmnidropError: a clip cannot be read, or the model cannot run.
    """
    from omnidrop_cli.engine.pipeline import open_both

    session, clips, seconds = open_both(request, progress)
    reports, unpruned, clips = _answers(session, request, methods, full, clips, seconds, progress)
    return _with_pictures(reports, unpruned, clips[0] if len(clips) == 1 else None)


def of_saved(reports: Sequence[Report], full: Report | None = None) -> tuple[Explanation, Clip | None]:
    """An explanation of saved reports; no model runs. A single clip is decoded again where its file is still there."""
    return _with_pictures(reports, full, _decoded_again(reports[0]) if len(reports[0].clips) == 1 else None)


def _with_pictures(reports: Sequence[Report], full: Report | None, clip: Clip | None) -> tuple[Explanation, Clip | None]:
    film, sound = (None, None) if clip is None else (film_of(clip), sound_of(clip))
    return Explanation(tuple(reports), full, film, sound), clip


def with_preview(explanation: Explanation, clip: Clip) -> Explanation:
    """The same with the used part of the clip embedded, small enough to mail and playable in every browser."""
    fps = preview_fps(explanation.first)
    frames = preview_frames(explanation.first, clip) if fps else iter(())
    return replace(explanation, preview=encode_mp4(frames, fps or 1.0, clip.waveform))


def with_link(explanation: Explanation, page: Path) -> Explanation:
    """The same with the clip linked by its path from the page's folder; unchanged where the clip is no local file."""
    source = Path(explanation.first.clip.source.path)
    if not source.is_file():
        return explanation
    return replace(explanation, link=quote(os.fsencode(os.path.relpath(source.resolve(), page.resolve().parent))))


def preview_fps(report: Report) -> float:
    """Frames per second of a moving picture of the clip; 0 without video."""
    return min(MAX_FPS, report.clip.source.video.fps or MAX_FPS) if report.clip.frames and report.clip.source.video is not None else 0.0


def preview_frames(report: Report, clip: Clip) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Seconds and pixels of the clip's frames at `preview_fps`."""
    return frames_of(Path(clip.source.path), report.job.media_options, clip.duration_s, preview_fps(report))


def _answers(
    session: Session,
    request: Request,
    methods: Sequence[PruningConfig],
    full: bool,
    clips: tuple[Clip, ...],
    seconds: Mapping[str, float],
    progress: ProgressCallback,
) -> tuple[list[Report], Report | None, tuple[Clip, ...]]:
    """Every report, the unpruned one, and the clips they are about, which have less detail where memory was short.

    The only function here that calls the engine.
    """
    from omnidrop_cli.engine.encoded_prompt import PromptSource
    from omnidrop_cli.prune.methods import get_method

    needs = frozenset[str]().union(*(get_method(method).needs for method in methods))
    source = PromptSource(replace(request, method=methods[0]), clips, seconds=seconds, needs=needs)
    encoded = session.encode(source, progress)
    unpruned = session.answer(session.with_method(encoded, PruningConfig(name="none")), progress) if full else None
    reports = [session.answer(session.with_method(encoded, method), progress) for method in methods]
    return reports, unpruned, encoded.clips


def _decoded_again(report: Report) -> Clip | None:
    """The clip of a saved report, its frames small; None where it cannot be read any more."""
    from omnidrop_cli.engine.pipeline import decode_file

    options = replace(report.job.media_options, min_pixels=None, max_pixels=THUMBNAIL_PIXELS)
    try:
        return decode_file(Path(report.clip.source.path), options)
    except OmnidropError:
        return None
