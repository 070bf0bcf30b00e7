"""Timelines of packets that no encoder at hand writes: missing time stamps, damaged ones, and the borders of a part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from omnidrop_cli.media import timeline
from omnidrop_cli.media.clock import HOLD_S
from omnidrop_cli.media.timeline import NO_PTS, AudioTrack, TrackPackets, VideoTrack, build_timeline
from tests.media.tracks import packets

TICKS = 1000


def track(times_s: Sequence[float | None], length_s: float, *, first_order: int = 0) -> TrackPackets:
    """Packets one after another with these time stamps; every one is a key frame."""
    n = len(times_s)
    seconds = np.array([np.nan if time is None else time for time in times_s])
    return TrackPackets(
        order=np.arange(n) * 2 + first_order,
        place=np.full(n, -1),
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
        held_s=length_s,
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


def film(*times_s: float, lengths_s: float | Sequence[float] = 0.0, usual_s: float = 0.04) -> VideoTrack:
    """The video track of pictures without audio."""
    found = build_timeline([(packets(times_s, length_s=lengths_s, usual_s=usual_s), None)], False).video
    assert found is not None
    return found


def sound(given: TrackPackets) -> AudioTrack:
    found = build_timeline([(None, given)], False).audio
    assert found is not None
    return found


# ---------------------------------------------------------------- packets


def test_a_length_that_is_missing_or_too_long_is_the_usual_one() -> None:
    given = packets([0.0, 1.0, 2.0, 3.0], length_s=[0.0, 0.25, 2.0, 2.5], usual_s=0.5)
    assert given.clock().length_s.tolist() == [0.5, 0.25, 2.0, 0.5]


@pytest.mark.parametrize(
    ("outside", "decoded"),
    [
        ([0, 0, 0, 0], [0.0, 1.0, 2.0, 3.0]),
        ([1, 1, 1, 1], [0.0, 1.0, 2.0, 3.0]),
        ([1, 0, 0, 1], [1.0, 1.0, 2.0, 2.0]),
        ([0, 1, 1, 1], [0.0, 0.0, 0.0, 0.0]),
        ([1, 0, 1, 1], [1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_the_clock_of_packets_outside_of_an_edit_list_is_that_of_what_follows(outside: list[int], decoded: list[float]) -> None:
    given = packets([0.0, 1.0, 2.0, 3.0], length_s=1.0)
    given.outside[:] = outside
    assert given.clock().decode_s.tolist() == decoded
    assert given.clock().shown_s.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_packets_outside_of_an_edit_list_make_no_pause() -> None:
    given = packets([-50.0, -49.0, 0.0, 1.0, 2.0], length_s=1.0)
    given.outside[:2] = given.hidden[:2] = True
    found = build_timeline([(None, given)], False)
    assert found.audio is not None
    assert found.notes == ()
    assert found.end_s == 3.0


# ---------------------------------------------------------------- audio


def test_a_packet_of_no_length_is_not_heard() -> None:
    nothing = np.zeros(2, np.int64)
    track = AudioTrack(np.array([0.0, 5.0]), np.array([0.0, 5.0]), np.array([1.0, 5.0]), nothing, nothing, nothing)
    assert track.samples_within(0.0, 10.0, 16_000) == 16_000
    assert track.samples_within(0.25, 0.25, 16_000) == 0
    later = AudioTrack(np.array([5.0]), np.array([5.0]), np.array([6.0]), nothing, nothing, nothing)
    assert later.samples_within(0.0, 5.0, 16_000) == 0, "not five seconds of silence"


def test_hidden_packets_last_no_time() -> None:
    given = packets([0.0, 1.0, 2.0], length_s=1.0)
    given.hidden[2] = True
    assert sound(given).ends_s.tolist() == [1.0, 2.0, 2.0]


def test_what_is_not_to_be_skipped_is_heard_at_its_own_time() -> None:
    assert sound(packets([0.0, 0.5, 0.25, 0.75], length_s=0.25)).heard_s.tolist() == [0.0, 0.5, 0.25, 0.75]


def test_a_packet_that_is_not_trimmed_may_be_longer_than_others() -> None:
    assert sound(packets([0.0, 1.0, 2.0, 3.0], length_s=[1.0, 1.0, 1.0, 1.5], usual_s=1.0)).end_s == 4.5


@pytest.mark.parametrize(("count", "step_s", "sparse"), [(51, 5.0, False), (52, 5.0, True), (65, 303.625 / 64, False)])
def test_audio_that_lasts_thirty_times_its_packets_and_a_minute_is_placed_by_them(count: int, step_s: float, sparse: bool) -> None:
    """Packets of 0.125 s. The last case lies on the limit."""
    found = build_timeline([(None, packets([n * step_s for n in range(count)], length_s=0.125))], False)
    assert found.audio is not None
    assert found.audio.end_s == (count * 0.125 if sparse else (count - 1) * step_s + 0.125)
    assert any("placed one after another" in note for note in found.notes) == sparse


# ---------------------------------------------------------------- video


@pytest.mark.parametrize(
    ("times", "lengths", "end_s", "held"),
    [
        ((0.0,), 5.0, 5.0, False),
        ((0.0, 0.125), 9.0, 0.25, False),  # lengths that contradict the time stamps
        ((0.0, 0.25, 0.5, 0.75, 1.0), [1.0] * 4 + [0.75], 1.75, True),
        ((0.0, 0.25, 0.5, 0.75, 1.0), [0.75] * 5, 1.75, True),
        ((0.0, 0.25, 0.5, 0.75, 1.0), [1.125] * 4 + [0.75], 1.25, False),
        ((0.0, 0.25, 0.5, 0.75, 1.0), [0.875] * 4 + [0.75], 1.75, True),
        ((0.0, 2.0, 4.0), 0.0, 6.0, True),
        ((0.0, 2.0, 4.0, 6.0), 0.0, 8.0, True),
        ((0.0, 2.0, 4.0, 6.0, 8.0), 0.0, 10.0, False),  # four stay equally long: a slow film
        ((0.0, 1.0, 2.0, 3.0, 4.0, 6.0), 0.0, 7.0, False),
        ((0.0, 1.0, 2.0, 3.0, 4.0, 6.5), 0.0, 7.5, True),
        ((0.0, 2.0), 0.0, 4.0, True),
        ((0.0, 0.0625, 0.125, 0.6875), 0.0, 0.75, True),
        ((0.0, 0.125, 0.25, 0.75), 0.0, 0.875, False),
        ((0.0, 0.125, 0.25, 0.875), 0.0, 1.0, True),
        ((0.0, 2.0, 4.0), [2.0, 2.0, 0.25], 4.5, True),
        ((0.0, 2.0, 4.0), [2.0, 2.0, 9_000.0], 4.0 + HOLD_S, True),
    ],
)
def test_how_long_the_last_picture_stays(times: tuple[float, ...], lengths: float | list[float], end_s: float, held: bool) -> None:
    track = film(*times, lengths_s=lengths)
    assert (track.end_s, track.held) == (end_s, held)


def test_a_track_is_timed_where_any_packet_bears_a_time_stamp() -> None:
    assert film(0.0, 0.5).timed
    for times, timed in (([None, 0.5], True), ([None, None], False)):
        found = build_timeline([(packets(times, dts_s=[0.0, 0.5]), None)], False).video
        assert found is not None
        assert found.timed == timed


def test_a_part_ends_a_hair_before_its_end() -> None:
    assert film(0.0, 0.5, 1.0 - 1e-6, 1.5).within(0.0, 1.0).tolist() == [0, 1]


def test_three_of_ten_missing_stamps_and_one_of_one_hide_no_picture() -> None:
    assert shown([None if n in (1, 4, 7) else n * 0.1 for n in range(10)]) == [True] * 10
    assert shown([None]) == [True]


def test_a_first_picture_that_is_hidden_does_not_begin_the_clip() -> None:
    given = packets([n * 0.5 for n in range(8)], length_s=0.5)
    given.hidden[0] = True
    found = build_timeline([(given, None)], False)
    assert found.video is not None
    assert found.video.times_s.tolist() == [n * 0.5 - 0.5 for n in range(8)]


# ---------------------------------------------------------------- the clip


def test_without_tracks_there_is_nothing() -> None:
    found = build_timeline([(None, None)], False)
    assert (found.video, found.audio, found.end_s, found.notes) == (None, None, 0.0, ())


def test_a_part_without_tracks_has_no_stretch() -> None:
    pictures = packets([0.0, 0.5], length_s=0.5)
    found = build_timeline([(pictures, None), (None, None), (pictures, None)], False).video
    assert found is not None
    assert found.stretch.tolist() == [0, 0, 1, 1]
    assert found.part.tolist() == [0, 0, 2, 2]
    assert found.times_s.tolist() == [0.0, 0.5, 1.0, 1.5]


@pytest.mark.parametrize(("pause_s", "said"), [(0.5, ()), (0.625, ("nothing was recorded from 2.0 s to 2.6 s",))])
def test_a_pause_before_the_last_packet_is_said_on_the_clips_clock(pause_s: float, said: tuple[str, ...]) -> None:
    assert build_timeline([(None, packets([100.0, 101.0, 102.0 + pause_s], length_s=1.0))], False).notes == said


def test_a_jump_of_both_tracks_counts_from_the_end_of_a_packet() -> None:
    times = [*range(10), *range(610, 620)]
    late = [*range(1, 17, 2), *range(23, 47, 2)]  # two packets of audio come behind the pictures' jump
    tracks = packets(times, range(0, 40, 2), length_s=1.0), packets(times, late, length_s=1.0)
    assert build_timeline([tracks], False).notes == ("the clock of the file jumps ahead by 600 s at 10.0 s: that time is left out",)


def test_of_each_kind_the_first_is_said_and_the_others_are_counted() -> None:
    joints = timeline._Joints([1.0, 2.0, 3.0], [(4.0, 600.0), (5.0, 700.0)], [(6.0, 7.0)])
    assert list(timeline._notes(joints)) == [
        "the clock of the file jumps ahead by 600 s at 4.0 s (and 1 more times): that time is left out",
        "the clock of the file starts again at 1.0 s (and 2 more times): what follows is placed after it",
        "nothing was recorded from 6.0 s to 7.0 s",
    ]
    more = timeline._Joints(pauses_s=[(6.0, 7.0), (8.0, 9.0)])
    assert list(timeline._notes(more)) == ["nothing was recorded from 6.0 s to 7.0 s (and 1 more times)"]
