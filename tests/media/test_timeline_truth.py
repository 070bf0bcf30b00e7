"""Recordings made of stretches with known true times, their clocks shifted, restarted and damaged: the timeline finds the true times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.media.clock import HOLD_S, HOLE_S
from omnidrop_cli.media.timeline import Timeline, TrackPackets, build_timeline
from tests.media.tracks import packets

AUDIO_S = 0.04
NOTICED_S = 0.5


@dataclass(frozen=True)
class Stretch:
    """`seconds` of both tracks. `gap_s` is what the clock does before it: ahead, back (negative), or on as before.

    A gap of more than `longest_s` is a jump of the clock.
    """

    seconds: float
    gap_s: float
    longest_s: float = HOLE_S

    @property
    def shift_s(self) -> float:
        """What the clip's own clock does before it: a pause stays, a jump and a restart are taken out."""
        return self.gap_s if 0 <= self.gap_s <= self.longest_s else 0.0


@dataclass(frozen=True)
class Track:
    """One track: (n,) times by the clock of the file and true times, in decoding order; the place of each packet by its time of arrival."""

    stamps_s: list[float]
    decode_s: list[float]
    true_s: list[float]
    arrival_s: list[float]
    length_s: float


def written(stretches: Sequence[Stretch], step_s: float, start_s: float, bframes: bool = False) -> Track:
    """Packets every `step_s` seconds; with `bframes`, pictures in the order I P B P B."""
    stamps, decode, true, arrival = list[float](), list[float](), list[float](), list[float]()
    clock_s, clip_s, arrived_s = start_s, 0.0, 0.0
    for stretch in stretches:
        clock_s, clip_s = clock_s + stretch.gap_s, clip_s + stretch.shift_s
        count = round(stretch.seconds / step_s)
        shown = list(range(count))
        if bframes:
            for n in range(1, count - 1, 2):
                shown[n], shown[n + 1] = n + 1, n
        stamps += [clock_s + n * step_s for n in shown]
        decode += [clock_s + (n - bframes) * step_s for n in range(count)]
        true += [clip_s + n * step_s for n in shown]
        arrival += [arrived_s + n * step_s for n in range(count)]
        clock_s, clip_s, arrived_s = clock_s + stretch.seconds, clip_s + stretch.seconds, arrived_s + stretch.seconds
    return Track(stamps, decode, true, arrival, step_s)


def file_of(*tracks: Track) -> list[TrackPackets]:
    """The packets of tracks, interleaved as they arrive."""
    arrivals = np.concatenate([track.arrival_s for track in tracks])
    places = np.empty(len(arrivals), int)
    places[np.argsort(arrivals, kind="stable")] = np.arange(len(arrivals))
    found, at = [], 0
    for track in tracks:
        order = places[at : at + len(track.stamps_s)]
        at += len(track.stamps_s)
        found.append(packets(track.stamps_s, order.tolist(), track.length_s, dts_s=track.decode_s, usual_s=track.length_s))
    return found


def said(stretches: Sequence[Stretch], audible: bool) -> list[str]:
    """What the user should read about these clocks. A picture that stays where there is no audio is no pause."""
    at_s, jumps, restarts, pauses = 0.0, list[str](), list[str](), list[str]()
    for number, stretch in enumerate(stretches):
        if number and stretch.gap_s < 0:
            restarts.append(f"the clock of the file starts again at {at_s:.1f} s")
        elif number and stretch.gap_s > stretch.longest_s:
            jumps.append(f"the clock of the file jumps ahead by {stretch.gap_s:.0f} s at {at_s:.1f} s")
        elif number and stretch.gap_s > NOTICED_S and audible:
            pauses.append(f"nothing was recorded from {at_s:.1f} s to {at_s + stretch.gap_s:.1f} s")
        at_s += stretch.shift_s + stretch.seconds
    more = [f" (and {len(kind) - 1} more times)" if len(kind) > 1 else "" for kind in (jumps, restarts, pauses)]
    ends = [": that time is left out", ": what follows is placed after it", ""]
    return [kind[0] + extra + end for kind, extra, end in zip((jumps, restarts, pauses), more, ends, strict=True) if kind]


SECONDS = st.integers(8, 40).map(lambda n: n * 0.4)
GAPS = st.one_of(
    st.just(0.0),
    st.floats(0.1, HOLE_S - 0.1).map(lambda s: round(s, 1) + 0.02),
    st.floats(HOLE_S + 0.4, 90_000).map(lambda s: round(s, 1) + 0.02),
)


@st.composite
def recordings(draw: st.DrawFn) -> list[Stretch]:
    found = [Stretch(draw(SECONDS), 0.0)]
    for _ in range(draw(st.integers(0, 3))):
        back = draw(st.booleans())
        gap_s = -draw(st.integers(30, 3600)) / 10 if back else draw(GAPS)
        found.append(Stretch(draw(SECONDS), gap_s))
    return found


def check(found: Timeline, stretches: Sequence[Stretch], video: Track | None, audio: Track | None) -> None:
    ends = []
    if video is not None:
        assert found.video is not None
        assert found.video.times_s == pytest.approx(video.true_s, abs=1e-4)
        assert found.video.shown.all()
        ends.append(max(video.true_s) + video.length_s)
        assert found.video.end_s == pytest.approx(ends[-1], abs=1e-4)
    if audio is not None:
        assert found.audio is not None
        assert found.audio.heard_s == pytest.approx(audio.true_s, abs=1e-4)
        assert found.audio.ends_s == pytest.approx(np.add(audio.true_s, AUDIO_S), abs=1e-4)
        ends.append(found.audio.end_s)
    assert found.end_s == pytest.approx(max(ends), abs=1e-4)
    assert list(found.notes) == said(stretches, audio is not None)


@given(recordings(), st.sampled_from([0.1, 0.04, 0.2]), st.sampled_from([0.0, 1.4, 93_000.0, -2.0]), st.booleans(), st.booleans())
def test_both_tracks_have_their_true_times(
    stretches: list[Stretch], step_s: float, start_s: float, bframes: bool, jumping_format: bool
) -> None:
    video, audio = written(stretches, step_s, start_s, bframes), written(stretches, AUDIO_S, start_s)
    found = build_timeline([tuple(file_of(video, audio))], jumping_format)  # type: ignore[list-item]
    check(found, stretches, video, audio)


@given(recordings(), st.sampled_from([0.0, 5_000.0]))
def test_audio_alone(stretches: list[Stretch], start_s: float) -> None:
    audio = written(stretches, AUDIO_S, start_s)
    check(build_timeline([(None, file_of(audio)[0])], False), stretches, None, audio)


@given(recordings(), st.booleans(), st.booleans())
def test_pictures_alone_may_stay_for_half_an_hour(stretches: list[Stretch], bframes: bool, jumping_format: bool) -> None:
    longest_s = HOLE_S if jumping_format else HOLD_S
    stretches = [replace(stretch, longest_s=longest_s) for stretch in stretches]
    video = written(stretches, 0.1, 7.0, bframes)
    check(build_timeline([(file_of(video)[0], None)], jumping_format), stretches, video, None)


@given(recordings(), st.integers(-9, 9))
def test_tracks_that_begin_apart_stay_apart(stretches: list[Stretch], tenths: int) -> None:
    apart_s = tenths / 10
    video, audio = written(stretches, 0.1, max(0.0, apart_s)), written(stretches, AUDIO_S, max(0.0, -apart_s))
    found = build_timeline([tuple(file_of(video, audio))], False)  # type: ignore[list-item]
    assert found.video is not None
    assert found.audio is not None
    assert float(found.video.times_s.min() - found.audio.heard_s.min()) == pytest.approx(apart_s, abs=1e-4)
    assert min(float(found.video.times_s.min()), float(found.audio.heard_s.min())) == pytest.approx(0.0, abs=1e-4)


@given(recordings(), st.sets(st.integers(0, 400), max_size=60), st.sampled_from(["presentation", "both", "all presentation"]))
def test_missing_time_stamps_are_counted_on(stretches: list[Stretch], lost: set[int], kind: str) -> None:
    video, audio = written(stretches, 0.1, 3.0), written(stretches, AUDIO_S, 3.0)
    pictures, sound = file_of(video, audio)
    firsts = np.cumsum([0, *(round(stretch.seconds / 0.1) for stretch in stretches)])
    some = np.array(sorted(n for n in lost if n < len(pictures) and n not in firsts), int)
    pictures.pts_s[some] = np.nan
    if kind == "both":
        pictures.dts_s[some] = np.nan
    if kind == "all presentation":
        pictures.pts_s[:] = np.nan
    check(build_timeline([(pictures, sound)], False), stretches, video, audio)


@given(recordings(), st.integers(1, 8), st.sampled_from([0.5, 2.0, 6.0, -0.5, -2.0, -1e5]), st.data())
def test_damaged_time_stamps_are_replaced(stretches: list[Stretch], run: int, by_s: float, data: st.DataObject) -> None:
    """Up to eight packets in a row, with as many good ones around; pictures may be shown long after they are decoded."""
    video, audio = written(stretches, 0.1, 3.0), written(stretches, AUDIO_S, 3.0)
    pictures, sound = file_of(video, audio)
    pictures.dts_s[:] -= data.draw(st.sampled_from([0.0, 0.9]))
    for packets_of_one in (pictures, sound):
        ends = np.cumsum([round(stretch.seconds / float(packets_of_one.length_s[0])) for stretch in stretches])
        which = data.draw(st.integers(0, len(stretches) - 1))
        first = int(ends[which] - round(stretches[which].seconds / float(packets_of_one.length_s[0])))
        at = data.draw(st.integers(first + 9, int(ends[which]) - run - 9))
        for stamps in (packets_of_one.pts_s, packets_of_one.dts_s):
            stamps[at : at + run] += by_s
    check(build_timeline([(pictures, sound)], False), stretches, video, audio)


@pytest.mark.parametrize(("start_s", "first_s"), [(-0.004, -0.004), (-0.005, 0.0), (-0.006, 0.0), (0.004, 0.0)])
def test_a_clip_that_begins_a_hair_before_0_is_not_moved(start_s: float, first_s: float) -> None:
    stretches = [Stretch(4.0, 0.0), Stretch(4.0, -9.0)]
    found = build_timeline([tuple(file_of(written(stretches, 0.1, start_s), written(stretches, AUDIO_S, start_s)))], False)  # type: ignore[list-item]
    assert found.video is not None
    assert found.video.times_s == pytest.approx(first_s + np.arange(80) * 0.1, abs=1e-6)


@pytest.mark.parametrize(
    ("stated_s", "usual_s", "ends_s"),
    [
        (0.0, 0.1, 4.0),
        (2.0, 0.1, 5.9),  # a slide stays as long as the container says
        (2.0, 2.0, 4.0),  # but not where all lengths contradict the time stamps
    ],
)
def test_the_last_picture_stays_as_long_as_its_packet_says(stated_s: float, usual_s: float, ends_s: float) -> None:
    lengths = [usual_s] * 39 + [stated_s]
    found = build_timeline([(packets([n * 0.1 for n in range(40)], length_s=lengths), None)], False)
    assert found.end_s == pytest.approx(ends_s)
    assert found.video is not None
    assert found.video.held == (ends_s > 5)


def test_a_picture_that_stays_lasts_as_long_as_the_audio() -> None:
    slides = packets([0.0, 0.1, 0.2, 2.0], length_s=0.1, order=range(4))
    sound = packets([n * AUDIO_S for n in range(200)], length_s=AUDIO_S, order=range(4, 204))
    found = build_timeline([(slides, sound)], False)
    assert found.video is not None
    assert (found.video.held, found.video.end_s) == (True, pytest.approx(8.0))
    film = packets([n * 0.1 for n in range(40)], length_s=0.1, order=range(40))
    found = build_timeline([(film, sound)], False)
    assert found.video is not None
    assert (found.video.held, found.video.end_s, found.end_s) == (False, pytest.approx(4.0), pytest.approx(8.0))


def test_what_encoders_add_is_cut_from_both_ends() -> None:
    """What is to be skipped may be longer than a packet; what is trimmed counts from a packet's usual length."""
    sound = packets([n * AUDIO_S - 0.06 for n in range(100)], length_s=AUDIO_S, skip_s=0.06)
    sound.trim_s[-1] = 0.03
    found = build_timeline([(None, sound)], False).audio
    assert found is not None
    assert found.heard_s[:4] == pytest.approx([0.0, 0.0, 0.02, 0.06])
    assert found.end_s == pytest.approx(100 * AUDIO_S - 0.06 - 0.03)
    assert found.samples_within(0.0, 10.0, 16_000) == round((100 * AUDIO_S - 0.09) * 16_000)
    assert found.samples_within(1.0, 2.5, 16_000) == 24_000
    assert found.samples_within(5.0, 6.0, 16_000) == 0
    assert found.held_s(0.5, 1.0) == pytest.approx(0.5)
    assert found.held_s(3.5, 9.0) == pytest.approx(found.end_s - 3.5)


def test_audio_whose_stamps_lie_hours_apart_is_placed_by_its_packets() -> None:
    stamps = [n * AUDIO_S + 4.0 * n for n in range(50)]
    found = build_timeline([(None, packets(stamps, length_s=AUDIO_S))], False)
    assert found.audio is not None
    assert found.audio.heard_s == pytest.approx(np.arange(50) * AUDIO_S)
    assert found.end_s == pytest.approx(2.0)
    assert found.notes == ("the time stamps of the audio are damaged: its packets are placed one after another",)


def test_parts_follow_each_other_and_share_no_stretch() -> None:
    """The audio of the first part ends before its clock starts again."""
    twice, once = [Stretch(4.0, 0.0), Stretch(4.0, -4.0)], [Stretch(4.0, 0.0)]
    first = file_of(written(twice, 0.1, 0.0), written(once, AUDIO_S, 0.0))
    second = file_of(written(once, 0.1, 50.0), written(once, AUDIO_S, 50.0))
    found = build_timeline([tuple(first), tuple(second)], False)  # type: ignore[list-item]
    assert found.video is not None
    assert found.audio is not None
    assert found.video.times_s == pytest.approx(np.arange(120) * 0.1)
    assert found.audio.heard_s == pytest.approx([*np.arange(100) * AUDIO_S, *(8.0 + np.arange(100) * AUDIO_S)])
    assert found.video.part.tolist() == [0] * 80 + [1] * 40
    assert found.video.stretch.tolist() == [0] * 40 + [1] * 40 + [2] * 40
    assert found.end_s == pytest.approx(12.0)


def test_hidden_packets_show_nothing_unless_all_are_hidden() -> None:
    film = packets([n * 0.1 for n in range(40)], length_s=0.1)
    film.hidden[[3, 39]] = True
    found = build_timeline([(film, None)], False)
    assert found.video is not None
    assert np.flatnonzero(~found.video.shown).tolist() == [3, 39]
    assert found.end_s == pytest.approx(3.9)
    film.hidden[:] = True
    found = build_timeline([(film, None)], False)
    assert found.video is not None
    assert found.video.shown.all()


def test_what_is_decoded_before_the_first_key_frame_is_not_shown() -> None:
    """Nor what is shown before it."""
    stamps = [0.0, 0.1, 0.4, 0.2, 0.3, 0.5, 0.6]
    keys = [False, False, True, False, False, False, False]
    found = build_timeline([(packets(stamps, length_s=0.1, keyframe=keys, dts_s=sorted(stamps)), None)], False)
    assert found.video is not None
    assert found.video.shown.tolist() == [False, False, True, False, False, True, True]


def test_the_picture_of_a_moment_is_the_one_that_stands_there_or_comes_within_half_a_frame() -> None:
    film = build_timeline([(packets([n * 0.1 for n in range(40)], length_s=0.1), None)], False).video
    slides = build_timeline([(packets([n * 1.0 for n in range(3)] + [9.0], length_s=1.0), None)], False).video
    assert film is not None
    assert slides is not None
    for start_s, end_s, first, last in ((0.44, 1.0, 4, 9), (0.46, 1.0, 5, 9), (0.0, 0.1, 0, 0), (0.5, 0.51, 5, 5), (3.0, 99.0, 30, 39)):
        found = film.within(start_s, end_s).tolist()
        assert (found[0], found[-1]) == (first, last)
    assert slides.held
    for start_s, first in ((0.96, 1), (0.94, 0), (5.0, 2), (8.96, 3)):
        assert slides.within(start_s, 10.0)[0] == first
