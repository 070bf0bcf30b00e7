"""Turns a media file into a `Clip`: plans which frames and samples are taken, decodes them, and says what is odd about the file.

The plan is made from the packets alone. `omnidrop inspect` shows it, `decode_media` carries it out: both take the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, TypeVar

from omnidrop_cli.config import MediaConfig
from omnidrop_cli.errors import MediaError, UsageError
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.media.audio import Waveform, read_audio
from omnidrop_cli.media.container import guarded
from omnidrop_cli.media.frame_choice import FrameChoice, choose_frames
from omnidrop_cli.media.probe import scan
from omnidrop_cli.media.subtitles import read_subtitles
from omnidrop_cli.media.video import Frames, read_frames
from omnidrop_cli.outputs import SAMPLE_RATE_HZ, Clip

if TYPE_CHECKING:
    from omnidrop_cli.media.probe import Scan
    from omnidrop_cli.outputs import SourceFacts, Subtitles

_Result = TypeVar("_Result")

_VIDEO, _AUDIO = "the video track", "the audio track"

_NOTICEABLE_S = 0.5
"""Differences between what a file promises and what it holds that are worth a word."""


@dataclass(frozen=True, slots=True, eq=False)
class ClipPlan:
    """What will be taken of a file: `frames`, `samples` at 16 kHz, both from `start_s` on, `duration_s` in all.

    `frames` is None and `samples` 0 where a track is missing, switched off, or silent in this part of the clip.
    """

    scan: Scan
    options: MediaConfig
    frames: FrameChoice | None
    samples: int
    warnings: tuple[str, ...]
    subtitles: Subtitles | None = None

    @property
    def source(self) -> SourceFacts:
        return replace(self.scan.facts, subtitles=None if self.subtitles is None else self.subtitles.about)

    @property
    def audio_s(self) -> float:
        return self.samples / SAMPLE_RATE_HZ

    @property
    def duration_s(self) -> float:
        ends = [self.options.start_s + self.audio_s, *([self.frames.end_s] if self.frames is not None else [])]
        return max(ends) - self.options.start_s


def plan_clip(path: str | Path, options: MediaConfig) -> ClipPlan:
    """Plans which frames and samples of a file stand for `options.start_s` to `options.end_s`. Nothing is decoded but a first frame.

    Raises:
        MediaError: there is no such file or part of it, no track that was asked for, or no such subtitles.
        UsageError: the part of the clip is empty.
    """
    start_s, end_s = options.start_s, math.inf if options.end_s is None else options.end_s
    if start_s < 0 or end_s <= start_s:
        raise UsageError(f"there is nothing from {start_s:g} s to {options.end_s} s", "give a start of 0 or more, and an end after it")
    scanned = scan(path)
    facts, timeline = scanned.facts, scanned.timeline
    use_video, use_audio = options.use_video and facts.video is not None, options.use_audio and facts.audio is not None
    if not (use_video or use_audio):
        raise _nothing_wanted(facts)
    if timeline.end_s <= start_s:
        raise MediaError(f"{path} is only {timeline.end_s:.1f} s long", f"choose a start before that (it is {start_s:g} s)")
    frames = None
    if use_video and facts.video is not None and timeline.video is not None:
        frames = choose_frames(timeline.video, facts.video, options)
    samples = timeline.audio.samples_within(start_s, end_s, SAMPLE_RATE_HZ) if use_audio and timeline.audio is not None else 0
    if frames is None and not samples:
        raise MediaError(f"{path}: there is nothing from {start_s:g} s on", "choose another part of the clip")
    plan = ClipPlan(scanned, options, frames, samples, ())
    warnings = (*_about_tracks(plan), *scanned.warnings, *(frames.warnings if frames is not None else ()), *_about_the_end(plan))
    if options.subtitles is None:
        return ClipPlan(scanned, options, frames, samples, warnings)
    subtitles, notes = read_subtitles(Path(path), options.subtitles, options.start_s, options.end_s)
    return ClipPlan(scanned, options, frames, samples, (*warnings, *notes), subtitles)


def decode_media(path: str | Path, options: MediaConfig, progress: ProgressCallback = SILENT) -> Clip:
    """Decodes what `plan_clip` plans. The audio is decoded in a thread while the frames are.

    Raises `MediaError` where no track that was asked for yields anything, and as `plan_clip` does.
    """
    plan = plan_clip(path, options)
    stop = Event()
    with ThreadPoolExecutor(1, "omnidrop-audio") as pool:
        try:
            decoding = pool.submit(_audio, plan, stop.is_set) if plan.samples else None
            frames, video_error = _attempt(lambda: _frames(plan, progress))
            waveform, audio_error = _attempt(lambda: decoding.result() if decoding is not None else None)
        finally:
            stop.set()  # an error or Ctrl-C must not wait for an hour of audio
    if frames is None and waveform is None:
        raise video_error or audio_error or _undecodable(plan)
    return Clip(
        source=plan.source,
        frames=None if frames is None else frames.pixels,
        frame_times_s=None if frames is None or plan.frames is None else plan.frames.times_s,
        fps=None if frames is None or plan.frames is None else plan.frames.fps,
        waveform=None if waveform is None else waveform.samples,
        start_s=options.start_s,
        duration_s=plan.duration_s,
        warnings=(*plan.warnings, *_about_decoding(plan, frames, waveform)),
        subtitles=plan.subtitles,
    )


def _attempt(work: Callable[[], _Result | None]) -> tuple[_Result | None, MediaError | None]:
    """The result of decoding one track, or its error, so that the other can still be used."""
    try:
        return work(), None
    except MediaError as error:
        return None, error


def _frames(plan: ClipPlan, progress: ProgressCallback) -> Frames | None:
    """The planned frames; None if there are none, or none can be decoded."""
    track, video, choice = plan.scan.timeline.video, plan.source.video, plan.frames
    if track is None or video is None or choice is None:
        return None
    with guarded(plan.scan.source.path, _VIDEO):
        frames = read_frames(plan.scan.source, track, choice, video, lambda done: progress.advance(done, len(choice.packets)))
    return frames if len(frames.pixels) else None


def _audio(plan: ClipPlan, cancelled: Callable[[], bool]) -> Waveform | None:
    """The planned audio; None if nothing of it can be decoded."""
    if plan.scan.timeline.audio is None:
        return None
    with guarded(plan.scan.source.path, _AUDIO):
        waveform = read_audio(plan.scan.source, plan.scan.timeline.audio, plan.options.start_s, plan.samples, cancelled)
    return waveform if waveform.decoded else None


def _undecodable(plan: ClipPlan) -> MediaError:
    return MediaError(
        f"{plan.source.path}: nothing can be decoded from {plan.options.start_s:g} s on", "the file may be damaged; try to play it"
    )


def _nothing_wanted(facts: SourceFacts) -> MediaError:
    if facts.video is None:
        return MediaError(f"{facts.path} has audio only, and the audio is switched off", "leave out `use_audio=False`")
    return MediaError(f"{facts.path} has video only, and the video is switched off", "leave out `use_video=False`")


def _about_tracks(plan: ClipPlan) -> Iterator[str]:
    """What is missing though it was asked for, and what nothing can be decoded of."""
    facts, options, broken = plan.source, plan.options, plan.scan.broken
    for name, reason in broken.items():
        yield f"{name} {reason}"
    if options.use_video and facts.video is None and _VIDEO not in broken:
        cover = " (its cover image is not one)" if plan.scan.has_cover else ""
        yield f"there is no video track{cover}: only the audio is used"
    elif options.use_video and facts.video is not None and plan.frames is None:
        yield "there is no video in this part of the clip: only the audio is used"
    if options.use_audio and facts.audio is None and _AUDIO not in broken:
        yield "there is no audio track: only the video is used"
    elif options.use_audio and facts.audio is not None and not plan.samples:
        yield "there is no audio in this part of the clip: only the video is used"


def _about_the_end(plan: ClipPlan) -> Iterator[str]:
    """A file that stops before it says it would: none of its tracks reaches the length that its header states."""
    promised_s, end_s = plan.scan.promised_s, plan.scan.timeline.end_s
    wanted_s = math.inf if plan.options.end_s is None else plan.options.end_s
    if promised_s is not None and promised_s - plan.scan.reached_s > _NOTICEABLE_S and wanted_s - end_s > _NOTICEABLE_S:
        yield f"the file breaks off at {end_s:.1f} s of {promised_s:.1f} s: it is cut or damaged"


def _about_decoding(plan: ClipPlan, frames: Frames | None, waveform: Waveform | None) -> Iterator[str]:
    """What could not be decoded, or only in part."""
    if plan.frames is not None and frames is None:
        yield "the video is damaged and cannot be decoded: only the audio is used"
    if plan.samples and waveform is None:
        yield "the audio is damaged and cannot be decoded: only the video is used"
    if frames is not None and frames.lost:
        yield f"{frames.lost} of {len(frames.pixels)} frames are damaged; the ones before them stand in"
    if waveform is not None and waveform.bad:
        yield f"{waveform.bad} samples of the audio are not numbers: they are silenced"
    if waveform is not None and waveform.cancelled_out:
        yield "the channels of the audio cancel each other out: almost nothing of it can be heard in their mean"
    if waveform is not None and waveform.overlap_s > _NOTICEABLE_S:
        yield f"{waveform.overlap_s:.1f} s of the audio lie on the rest by their time stamps, which are damaged: they are left out"
    audio, start_s = plan.scan.timeline.audio, plan.options.start_s
    if waveform is not None and audio is not None:
        lost_s = audio.held_s(start_s, start_s + plan.audio_s) - waveform.decoded / SAMPLE_RATE_HZ
        if lost_s > _NOTICEABLE_S:
            yield f"{lost_s:.1f} s of the audio are damaged: they are silent"
