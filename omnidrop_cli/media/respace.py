"""Pictures that a damaged header spreads over hours are placed again, evenly, over the time that the rest of the file fills."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from omnidrop_cli.media.clock import HOLD_S

if TYPE_CHECKING:
    from omnidrop_cli.media.timeline import TrackPackets

SLOWEST_S = 60.0
"""A longer usual time between two pictures is damage where the clock has such ticks, or where a length or the audio contradicts it."""

_RATE = 25.0
"""Pictures a second where nothing tells."""


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
