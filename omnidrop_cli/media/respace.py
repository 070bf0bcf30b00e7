"""Pictures whose clock a damaged header makes too slow or too fast are placed again, by what the rest of the file tells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from omnidrop_cli.media.clock import HOLD_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from omnidrop_cli.media.timeline import TrackPackets

SLOWEST_S = 60.0
"""A longer usual time between two pictures is damage where the clock has such ticks, or where a length or the audio contradicts it."""

_RATE = 25.0
"""Pictures a second where nothing tells."""

_APART = 1.1
"""Clocks that run this many times as fast as each other are two; a muxer that writes one track ahead explains less."""

_LEAST, _LEAST_S = 24, 2.0
"""Pictures, and seconds of audio, over which clocks are compared."""

_COVERED, _INEXACT = 0.5, 0.02
"""The share of both tracks that must lie within the other, and how far, as a share of the time, places may be from a straight line."""


def respaced(video: TrackPackets, tick_s: float, audio: TrackPackets | None, promised_s: float | None) -> tuple[TrackPackets, str] | None:
    """Packets with credible time stamps, and what to say about it; None where those of `video` may stand.

    Args:
        video: The packets of the video track.
        tick_s: The unit of their time stamps. Formats that count pictures (AVI, Theora) have one tick a picture.
        audio: The packets of the audio track, if there is one.
        promised_s: The length that the header states, if it does.
    """
    known = np.sort(video.pts_s[~np.isnan(video.pts_s)])
    if len(known) < 3 or (usual_s := float(np.median(np.diff(known)))) <= SLOWEST_S:
        return None
    audio_s = 0.0 if audio is None else float(audio.length_s.sum())
    overruns = promised_s is not None and known[-1] - known[0] > promised_s + HOLD_S
    alone = promised_s is None and 0 < audio_s < usual_s  # no length is stated, and the audio is over before the second picture
    if tick_s <= SLOWEST_S and not overruns and not alone:
        return None
    fills_s = audio_s or (promised_s if overruns and promised_s else len(video) / _RATE)
    step_s = fills_s / len(video)
    place = np.argsort(np.argsort(np.where(np.isnan(video.pts_s), np.inf, video.pts_s), kind="stable"), kind="stable")
    decoded = np.arange(len(video)) - max(0, int((np.arange(len(video)) - place).max()))  # no picture is shown before it is decoded
    moved = replace(
        video,
        pts_s=(place * step_s).astype(np.float64),
        dts_s=(decoded * step_s).astype(np.float64),
        length_s=np.full(len(video), step_s),
        usual_s=step_s,
    )
    return moved, f"the header is damaged: it states a picture every {usual_s:.0f} s; they are spread over {fills_s:.1f} s"


def rescaled(video: TrackPackets, audio: TrackPackets) -> tuple[TrackPackets, str] | None:
    """Pictures whose time scale is damaged, on the clock of the audio.

    What lies next to each other in a file is of the same time. Where the audio next to the pictures goes on at another rate than they do,
    along a straight line through at least half of both tracks, and keeps to the length of its own samples, their time scale is wrong.

    Args:
        video: The packets of the video track.
        audio: The packets of the audio track.

    Returns:
        Packets on the clock of the audio, and what to say about it; None where both clocks agree, or where nothing tells.
    """
    pictures_s, sound_s = _decoding_s(video), _decoding_s(audio)
    if pictures_s is None or sound_s is None or len(video) < _LEAST:
        return None
    following = np.searchsorted(audio.place, video.place)
    inside = (following > 0) & (following < len(audio))
    if inside.mean() < _COVERED or following[-1] - following[0] < _COVERED * len(audio):
        return None
    at_s, shown_s = sound_s[following[inside]], pictures_s[inside]
    spans_s = float(at_s[-1] - at_s[0])
    off_s = abs(np.diff(sound_s).mean() - audio.held_s)
    if spans_s < _LEAST_S or shown_s[0] == shown_s[-1] or off_s > _INEXACT * audio.held_s:
        return None
    rate, start_s = np.polyfit(shown_s, at_s, 1)
    inexact = float(np.abs(rate * shown_s + start_s - at_s).max()) / spans_s
    if 1 / _APART <= rate <= _APART or inexact > _INEXACT:
        return None
    fps = (len(video) - 1) / float(pictures_s[-1] - pictures_s[0]) / rate
    if abs(fps - round(fps)) <= inexact * fps:  # places cannot tell it from a whole number of pictures a second
        rate, fps = rate * fps / round(fps), round(fps)
    moved = replace(
        video,
        pts_s=video.pts_s * rate,
        dts_s=video.dts_s * rate,
        length_s=video.length_s * rate,
        usual_s=1 / fps,
        longest_s=video.longest_s * rate,
    )
    said = f"the header is damaged: the pictures run {rate:.3g} times as fast as the audio next to them in the file; they are placed by it"
    return moved, said


def _decoding_s(track: TrackPackets) -> NDArray[np.float64] | None:
    """The decoding times of a track whose packets lie in the file in their order; else None."""
    if (np.diff(track.place) <= 0).any() or not (np.diff(track.dts_s) >= 0).all():
        return None
    return track.dts_s
