"""Tracks of packets out of lists of times, for the tests of the arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omnidrop_cli.media.timeline import NO_PTS, Timeline, TrackPackets, VideoTrack, build_timeline


def packets(
    times_s: Sequence[float | None],
    order: Sequence[int] | None = None,
    length_s: float | Sequence[float] = 0.0,
    keyframe: Sequence[bool] | None = None,
    usual_s: float = 0.04,
    dts_s: Sequence[float | None] | None = None,
    skip_s: float = 0.0,
) -> TrackPackets:
    """Packets in decoding order; None is a missing time stamp. Decoding times are made as a container does unless given."""
    count = len(times_s)
    pts = np.array([np.nan if t is None else t for t in times_s], float)
    dts = pts if dts_s is None else np.array([np.nan if t is None else t for t in dts_s], float)
    return TrackPackets(
        order=np.arange(count) if order is None else np.array(order),
        place=np.full(count, -1),
        pts=np.where(np.isnan(pts), NO_PTS, np.nan_to_num(pts) * 1000).astype(np.int64),
        size=np.arange(count),
        pts_s=pts,
        dts_s=dts,
        length_s=np.broadcast_to(np.asarray(length_s, float), count).copy(),
        keyframe=np.ones(count, bool) if keyframe is None else np.array(keyframe, bool),
        hidden=np.zeros(count, bool),
        outside=np.zeros(count, bool),
        skip_s=np.where(np.arange(count) == 0, skip_s, 0.0),
        trim_s=np.zeros(count),
        usual_s=usual_s,
        longest_s=max(1.0, 4 * usual_s),
        held_s=usual_s,
    )


def timeline(video: TrackPackets | None = None, audio: TrackPackets | None = None, jumping_format: bool = False) -> Timeline:
    return build_timeline([(video, audio)], jumping_format)


def video_track(times_s: Sequence[float], keyframe: Sequence[bool] | None = None, **more: float) -> VideoTrack:
    """A track by presentation times in decoding order."""
    track = timeline(packets(times_s, keyframe=keyframe, dts_s=sorted(times_s), **more)).video  # type: ignore[arg-type]
    assert track is not None
    return track
