"""Timelines of packets that no encoder at hand writes: missing time stamps, damaged ones, and the borders of a part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from omnidrop_cli.media.timeline import NO_PTS, TrackPackets, build_timeline

TICKS = 1000


def track(times_s: Sequence[float | None], length_s: float, *, first_order: int = 0) -> TrackPackets:
    """Packets one after another with these time stamps; every one is a key frame."""
    n = len(times_s)
    seconds = np.array([np.nan if time is None else time for time in times_s])
    return TrackPackets(
        order=np.arange(n) * 2 + first_order,
        pts=np.array([NO_PTS if time is None else round(time * TICKS) for time in times_s], np.int64),
        size=np.full(n, 100),
        pts_s=seconds,
        dts_s=np.arange(n) * length_s,
        length_s=np.full(n, length_s),
        keyframe=np.ones(n, bool),
        hidden=np.zeros(n, bool),
        outside=np.zeros(n, bool),
        skip_s=np.zeros(n),
        trim_s=np.zeros(n),
        usual_s=length_s,
        longest_s=1.0,
    )


def shown(times_s: Sequence[float | None]) -> list[bool]:
    video = build_timeline([(track(times_s, 0.1), None)], False).video
    assert video is not None
    return [bool(flag) for flag in video.shown]


def test_a_few_missing_stamps_hide_no_picture() -> None:
    assert shown([None if n in (5, 11) else n * 0.1 for n in range(20)]) == [True] * 20
    assert shown([None if n in (5, 6, 7) else n * 0.1 for n in range(20)]) == [True] * 20


def test_every_second_packet_without_a_stamp_is_the_second_field_of_a_picture() -> None:
    assert shown([None if n % 2 else n * 0.1 for n in range(20)]) == [True, False] * 10


@pytest.mark.parametrize("end_s", [0.5, 1.0, 2.0])
def test_samples_within_a_part_end_with_it(end_s: float) -> None:
    audio = build_timeline([(None, track([n * 0.1 for n in range(20)], 0.1))], False).audio
    assert audio is not None
    assert audio.samples_within(0.0, end_s, 16_000) == 16_000 * end_s
    assert audio.samples_within(0.25, end_s, 16_000) == 16_000 * (end_s - 0.25)
    assert audio.samples_within(end_s, end_s, 16_000) == 0
    assert audio.samples_within(2.0, 9.0, 16_000) == 0, "nothing is heard from the end on"
    assert audio.held_s(0.25, end_s) == pytest.approx(end_s - 0.25)


def test_one_wild_stamp_among_good_ones_is_replaced() -> None:
    times = [n * 0.1 for n in range(50)]
    packets = track([16_777.0 if n == 20 else time for n, time in enumerate(times)], 0.1)
    packets.dts_s[20] = 16_777.0
    audio = build_timeline([(None, packets)], False)
    assert audio.end_s == pytest.approx(5.0)
    assert audio.notes == ()
