"""Clocks of two tracks that break at different places of a file, where `test_cases.py` has no encoder that writes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from omnidrop_cli.media.timeline import Timeline, TrackPackets
from tests.media.tracks import packets, timeline


def ticks(count: int, start_s: float = 0.0) -> list[float]:
    return [start_s + 0.1 * n for n in range(count)]


def track(times_s: list[float], order: Sequence[int]) -> TrackPackets:
    return packets(times_s, order=order, length_s=0.1)


def placed(found: Timeline) -> tuple[tuple[float, float], tuple[float, float]]:
    """(first, last) time of the pictures and of the audio, after a check that both run forward without a gap."""
    assert found.video is not None
    assert found.audio is not None
    for times in (found.video.times_s, found.audio.times_s):
        assert np.diff(times).min() > -1e-6
        assert np.diff(times).max() < 0.21
    video, audio = found.video.times_s, found.audio.times_s
    return (float(video[0]), float(video[-1])), (float(audio[0]), float(audio[-1]))


@pytest.mark.parametrize("apart_s", [-3600.0, 3600.0])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_track_that_leaves_the_other_for_a_while_is_moved_back(apart_s: float, swapped: bool) -> None:
    steady = track(ticks(100, 5000.0), range(0, 200, 2))
    leaves = track(ticks(40, 5000.0) + ticks(30, 5004.0 + apart_s) + ticks(30, 5007.0), range(1, 201, 2))
    found = timeline(leaves, steady) if swapped else timeline(steady, leaves)
    assert placed(found) == (pytest.approx((0.0, 9.9)), pytest.approx((0.0, 9.9)))
    assert found.notes == ()


def test_audio_that_only_the_second_recording_has_lies_in_the_second() -> None:
    found = timeline(track(ticks(40) * 2, [*range(40), *range(40, 120, 2)]), track(ticks(40), range(41, 121, 2)))
    assert placed(found) == (pytest.approx((0.0, 7.9)), pytest.approx((4.0, 7.9)))
    assert found.notes == ("the clock of the file starts again at 4.0 s: what follows is placed after it",)


def test_audio_that_only_the_first_recording_has_lies_in_the_first() -> None:
    found = timeline(track(ticks(40) * 2, [*range(0, 80, 2), *range(80, 120)]), track(ticks(40), range(1, 81, 2)))
    assert placed(found) == (pytest.approx((0.0, 7.9)), pytest.approx((0.0, 3.9)))
    assert found.notes == ("the clock of the file starts again at 4.0 s: what follows is placed after it",)


def test_three_recordings_without_audio_follow_each_other() -> None:
    found = timeline(packets(ticks(40) * 3, length_s=0.1))
    assert found.video is not None
    assert found.video.times_s == pytest.approx([n * 0.1 for n in range(120)])
    assert len([note for note in found.notes if "starts again" in note]) >= 1
    assert found.end_s == pytest.approx(12.0)


def test_both_tracks_jump_though_some_audio_of_before_comes_late() -> None:
    order = [*range(1, 71, 2), *range(81, 91, 2), *range(91, 171, 2)]
    found = timeline(
        track(ticks(40) + ticks(40, 604.0), [*range(0, 80, 2), *range(80, 160, 2)]), track(ticks(40) + ticks(40, 604.0), order)
    )
    assert placed(found) == (pytest.approx((0.0, 7.9)), pytest.approx((0.0, 7.9)))
    assert found.notes == ("the clock of the file jumps ahead by 600 s at 4.0 s: that time is left out",)


def test_a_jump_within_the_second_recording_is_reported_on_the_clips_clock() -> None:
    found = timeline(packets(ticks(40) + ticks(20) + ticks(20, 602.0), length_s=0.1), jumping_format=True)
    assert found.video is not None
    assert found.video.times_s == pytest.approx([n * 0.1 for n in range(80)])
    assert found.notes == (
        "the clock of the file jumps ahead by 600 s at 6.0 s: that time is left out",
        "the clock of the file starts again at 4.0 s: what follows is placed after it",
    )


@pytest.mark.parametrize("late", [1, 2, 3])
@pytest.mark.parametrize("audio", [False, True])
def test_pictures_behind_a_jump_that_a_reader_decodes_before_it(late: int, audio: bool) -> None:
    """Their decoding times still follow the old clock, as readers continue it; their presentation times are of the new one."""
    shown = ticks(40) + ticks(40, 604.0)
    decoded = ticks(40 + late) + ticks(40 - late, 604.0 + 0.1 * late)
    pictures = packets(shown, dts_s=decoded, order=range(0, 160, 2), length_s=0.1)
    if audio:
        found = timeline(pictures, track(shown, range(1, 161, 2)), jumping_format=True)
        assert placed(found) == (pytest.approx((0.0, 7.9)), pytest.approx((0.0, 7.9)))
    else:
        found = timeline(pictures, jumping_format=True)
    assert found.video is not None
    assert found.video.times_s == pytest.approx([n * 0.1 for n in range(80)])
    assert found.notes == ("the clock of the file jumps ahead by 600 s at 4.0 s: that time is left out",)


@pytest.mark.parametrize(("stays_s", "stated_s"), [(2.0, 2.0), (2.0, 0.0), (8.0, 8.0)])
@pytest.mark.parametrize("apart_s", [-3600.0, 3600.0])
def test_slides_that_leave_the_audio_for_a_while_are_moved_back(apart_s: float, stays_s: float, stated_s: float) -> None:
    per_slide = round(stays_s / 0.1)
    shown = [5000.0 + stays_s * n + (apart_s if 4 <= n < 7 else 0.0) for n in range(10)]
    sound = track(ticks(10 * per_slide, 5000.0), [n + n // per_slide + 1 for n in range(10 * per_slide)])
    found = timeline(packets(shown, order=[(per_slide + 1) * n for n in range(10)], length_s=stated_s, usual_s=2.0), sound)
    assert found.video is not None
    assert found.audio is not None
    assert found.video.times_s == pytest.approx([stays_s * n for n in range(10)])
    assert found.audio.heard_s == pytest.approx(ticks(10 * per_slide))
    assert found.notes == ()
