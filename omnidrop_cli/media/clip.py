"""A file becomes a `Clip`: frames and sound of the wanted stretch, and a word on everything that is unlike what one expects.

Knows: the order of the steps and what to say when a track is missing, late or damaged. Does not know: rules of sampling
(`sampling.py`), decoders (`video.py`, `audio.py`), the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import numpy as np

from omnidrop_cli.config import MediaConfig
from omnidrop_cli.errors import MediaError, UsageError
from omnidrop_cli.events import SILENT, Observer
from omnidrop_cli.media.audio import read_sound
from omnidrop_cli.media.probe import guarded, has_cover, open_media, probe
from omnidrop_cli.media.sampling import frame_count, frame_size, frames_on_display, sample_times
from omnidrop_cli.media.video import read_frames, read_index
from omnidrop_cli.outputs import SAMPLE_RATE_HZ, Clip, SourceFacts, VideoStream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from omnidrop_cli.media.seek_plan import PacketIndex

_NOTICEABLE_S = 0.5
"""Differences between what a file promises and what it holds that are worth a word."""

_LATE_S = 0.25
"""Half the distance of two frames at 2 per second: pictures that begin later than this need filling in before them."""


@dataclass(frozen=True, slots=True, eq=False)
class _Pictures:
    """What became of a picture track: `Clip`'s fields, the second at which it ends, and what is worth saying."""

    frames: NDArray[np.uint8]
    times_s: NDArray[np.float64]
    fps: float
    end_s: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The pictures that stand for a stretch: `packets` (T,) of the index, the seconds they are reported at, (H, W), effective rate, end."""

    packets: NDArray[np.int64]
    times_s: NDArray[np.float64]
    size: tuple[int, int]
    fps: float
    end_s: float
    warnings: tuple[str, ...]


def decode(path: str | Path, options: MediaConfig, observer: Observer = SILENT) -> Clip:
    """Decodes `options.start_s` to `options.end_s` of a file. The sound is decoded beside the pictures, in a thread.

    Raises `MediaError` where no track that was asked for yields anything, `UsageError` for an empty stretch.
    """
    path = Path(path)
    start_s = options.start_s
    if start_s < 0 or (options.end_s is not None and options.end_s <= start_s):
        raise UsageError(f"there is nothing from {start_s:g} s to {options.end_s} s", "give a start of 0 or more, and an end after it")
    facts = probe(path)
    if 0 < facts.duration_s <= start_s:
        raise MediaError(f"{path} is only {facts.duration_s:.1f} s long", f"choose a start before that (it is {start_s:g} s)")
    want_pictures, want_sound = options.use_video and facts.video is not None, options.use_audio and facts.audio is not None
    if not (want_pictures or want_sound):
        raise _nothing_wanted(path, facts)
    stop = Event()
    damage: list[MediaError] = []
    pictures = waveform = None
    with ThreadPoolExecutor(1, "omnidrop-sound") as pool:
        try:
            hearing = pool.submit(_sound, path, facts, options, stop.is_set) if want_sound else None
            if facts.video is not None and options.use_video:
                with _noted(damage), guarded(path, "the picture track"):
                    pictures = _pictures(path, facts.video, options, observer)
            if hearing is not None:
                with _noted(damage):
                    waveform = hearing.result()
        finally:
            stop.set()  # an error or Ctrl-C must not wait for an hour of sound
    if waveform is not None and not len(waveform):
        waveform = None
    if pictures is None and waveform is None:
        if damage:
            raise damage[0]
        raise MediaError(f"{path}: nothing could be decoded from {start_s:g} s on", "the file may be damaged; try to play it")
    sound_end_s = start_s if waveform is None else start_s + len(waveform) / SAMPLE_RATE_HZ
    end_s = sound_end_s if pictures is None else max(pictures.end_s, sound_end_s)
    return Clip(
        source=facts,
        frames=None if pictures is None else pictures.frames,
        frame_times_s=None if pictures is None else pictures.times_s,
        fps=None if pictures is None else pictures.fps,
        waveform=waveform,
        start_s=start_s,
        duration_s=end_s - start_s,
        warnings=(
            *_about_tracks(path, facts, options, want_pictures and pictures is None, want_sound and waveform is None),
            *(pictures.warnings if pictures is not None else ()),
            *_about_the_end(facts, options, end_s),
        ),
    )


def _sound(path: Path, facts: SourceFacts, options: MediaConfig, cancelled: Callable[[], bool]) -> NDArray[np.float32]:
    with guarded(path, "the sound track"):
        return read_sound(path, facts, options.start_s, options.end_s, cancelled)


@contextmanager
def _noted(damage: list[MediaError]) -> Iterator[None]:
    """Collects the error of one track, so that the other can still be used."""
    try:
        yield
    except MediaError as error:
        damage.append(error)


def choose(index: PacketIndex, video: VideoStream, options: MediaConfig) -> Choice | None:
    """Which pictures of the stretch stand for it, and how large. None if there are none in it.

    Raises `MediaError` for pictures too narrow for the model.
    """
    inside = index.within(options.start_s, math.inf if options.end_s is None else options.end_s)
    if not len(inside):
        return None
    times = index.times_s[inside]
    end_s = min(index.end_s, math.inf if options.end_s is None else options.end_s)
    if options.start_s >= end_s:
        return None
    first_s = max(float(times[0]), options.start_s)
    rate = len(times) / max(end_s - first_s, index.frame_s)
    warnings = []
    if (late_s := first_s - options.start_s) > _LATE_S:
        # Grid k of the prompt stands k seconds after the start: without these the pictures would come too early for the sound.
        warnings.append(f"the pictures begin {late_s:.1f} s after the sound; the first one stands for that time")
        first_s = options.start_s
    seconds = max(end_s - first_s, index.frame_s)
    count = frame_count(seconds, rate, options)
    moments = sample_times(first_s, max(float(times[-1]), end_s - index.frame_s, first_s), count)
    chosen = frames_on_display(times, moments)
    upright = (video.height, video.width) if video.rotation_deg % 180 == 0 else (video.width, video.height)
    if len(times) == 1:
        warnings.append("the picture track holds a single picture")
    # A picture that stays for seconds is reported at the moment it was taken for.
    own = times[chosen]
    shown_at = np.where(np.abs(own - moments) <= index.frame_s, own, moments)
    return Choice(inside[chosen], shown_at, frame_size(*upright, count, options), count / seconds, end_s, tuple(warnings))


def _pictures(path: Path, video: VideoStream, options: MediaConfig, observer: Observer) -> _Pictures | None:
    """Chooses moments, the frames on display then, and decodes those. None if there are none in the stretch."""
    index = read_index(path, video.fps)
    choice = choose(index, video, options)
    if choice is None:
        return None
    count = len(choice.packets)
    frames, lost = read_frames(path, index, choice.packets, choice.size, video.rotation_deg, lambda done: observer.advance(done, count))
    if not len(frames):
        return None
    damaged = (f"{lost} of {count} pictures are damaged; the ones before them stand in",) if lost else ()
    return _Pictures(frames, choice.times_s, choice.fps, choice.end_s, (*choice.warnings, *damaged))


def _nothing_wanted(path: Path, facts: SourceFacts) -> MediaError:
    if facts.video is None and facts.audio is not None:
        return MediaError(f"{path} has sound only, and the sound is switched off", "leave out --no-audio")
    if facts.audio is None and facts.video is not None:
        return MediaError(f"{path} has pictures only, and the pictures are switched off", "leave out --no-video")
    return MediaError(f"{path}: pictures and sound are both switched off", "leave out --no-audio or --no-video")


def _about_tracks(path: Path, facts: SourceFacts, options: MediaConfig, blind: bool, mute: bool) -> Iterator[str]:
    """What is missing though it was asked for."""
    if options.use_video and facts.video is None:
        with open_media(path) as container:
            cover = " (its cover image is not one)" if has_cover(container) else ""
        yield f"there is no picture track{cover}: only the sound is used"
    if options.use_audio and facts.audio is None:
        yield "there is no sound track: only the pictures are used"
    if blind:
        yield "there are no pictures in this stretch that can be decoded: only the sound is used"
    if mute:
        yield "there is no sound in this stretch that can be decoded: only the pictures are used"


def _about_the_end(facts: SourceFacts, options: MediaConfig, end_s: float) -> Iterator[str]:
    """A file that stops before it says it would. Judged on all tracks together: one may rightly end before the other."""
    both = (options.use_video or facts.video is None) and (options.use_audio or facts.audio is None)
    promised_s = facts.duration_s if options.end_s is None else min(options.end_s, facts.duration_s)
    if both and promised_s - end_s > _NOTICEABLE_S:
        yield f"the file breaks off at {end_s:.1f} s of {promised_s:.1f} s: it is cut or damaged"
