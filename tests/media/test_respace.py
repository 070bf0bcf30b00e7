"""Pictures that a damaged header spreads over hours, or whose clock is not that of the audio, are placed by the rest of the file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omnidrop_cli.media.respace import rescaled, respaced
from omnidrop_cli.media.timeline import TrackPackets
from tests.media.tracks import packets

TICK_S = 600.0
ORDER = [0, 2, 1, 4, 3, 5]
"""Places at which the pictures are shown, in decoding order: I P B P B P."""


def pictures(step_s: float = TICK_S) -> TrackPackets:
    return packets([n * step_s for n in ORDER], length_s=step_s)


def test_reordered_pictures_keep_their_order_and_are_decoded_before_they_are_shown() -> None:
    sound = packets([n * 0.1 for n in range(30)], length_s=0.1)
    found = respaced(pictures(), TICK_S, sound, None)
    assert found is not None
    moved, said = found
    assert moved.pts_s == pytest.approx(np.array(ORDER) * 0.5)
    assert moved.dts_s == pytest.approx((np.arange(6) - 1) * 0.5)
    assert (moved.dts_s <= moved.pts_s).all()
    assert moved.length_s == pytest.approx(np.full(6, 0.5))
    assert moved.usual_s == pytest.approx(0.5)
    assert said == "the header is damaged: it states a picture every 600 s; they are spread over 3.0 s"


def test_without_audio_they_fill_the_stated_length_or_follow_at_25_a_second() -> None:
    for tick_s, promised_s, usual_s in ((0.001, 12.0, 2.0), (TICK_S, None, 0.04), (TICK_S, 3_000.0, 0.04)):
        found = respaced(pictures(), tick_s, None, promised_s)
        assert found is not None
        assert found[0].usual_s == pytest.approx(usual_s), "a length that the pictures agree with tells nothing"


@pytest.mark.parametrize(
    ("step_s", "tick_s", "audio_s", "promised_s"),
    [(60.5, 60.5, 3.0, None), (600.0, 60.0, 0.5, None), (600.0, 60.0, 3.0, 1_100.0)],
)
def test_a_little_beyond_the_limits_they_are_respaced(step_s: float, tick_s: float, audio_s: float, promised_s: float | None) -> None:
    assert respaced(pictures(step_s), tick_s, packets([0.0], length_s=audio_s), promised_s) is not None


def test_a_late_first_picture_does_not_count() -> None:
    late = packets([5_000.0 + n * 600.0 for n in ORDER], length_s=600.0)
    assert respaced(late, 60.0, None, 1_200.0) is None


def test_pictures_in_order_are_shown_when_they_are_decoded() -> None:
    found = respaced(packets([0.0, 600.0, 1200.0]), TICK_S, packets([0.0], length_s=6.0), None)
    assert found is not None
    assert found[0].pts_s.tolist() == found[0].dts_s.tolist() == [0.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("step_s", "tick_s", "audio_s", "promised_s"),
    [
        (60.0, 60.0, 3.0, None),  # a picture a minute is possible
        (600.0, 60.0, 0.0, None),  # slides of ten minutes
        (600.0, 60.0, 600.0, None),  # the audio lasts until the second picture
        (600.0, 60.0, 3.0, 3_000.0),  # as long as the header says
        (600.0, 60.0, 3.0, 1_200.0),  # no more than half an hour longer
    ],
)
def test_slides_that_may_stay_for_long_are_left_alone(step_s: float, tick_s: float, audio_s: float, promised_s: float | None) -> None:
    sound = packets([0.0], length_s=audio_s) if audio_s else None
    assert respaced(pictures(step_s), tick_s, sound, promised_s) is None


def test_two_pictures_tell_no_rate() -> None:
    assert respaced(packets([0.0, 600.0]), TICK_S, None, None) is None


# ---------------------------------------------------------------- two clocks


def muxed(
    pictures_s: np.ndarray, sound_s: np.ndarray, rate: float = 1.0, audio_rate: float = 1.0, late_s: float = 0.0
) -> tuple[TrackPackets, TrackPackets]:
    """Two tracks whose packets lie in the file by their true times, the pictures `late_s` later; their clocks run `rate` times as fast."""
    places = np.argsort(np.argsort(np.concatenate([pictures_s + late_s + 1e-6, sound_s]), kind="stable"))
    step_s, held_s = float(pictures_s[1] - pictures_s[0]), float(sound_s[1] - sound_s[0])
    video = packets((pictures_s / rate).tolist(), length_s=step_s / rate, usual_s=step_s / rate)
    audio = packets((sound_s / audio_rate).tolist(), length_s=held_s / audio_rate, usual_s=held_s)
    video.place[:], audio.place[:] = places[: len(video)], places[len(video) :]
    return video, audio


def film(seconds: float) -> np.ndarray:
    return np.arange(0.0, seconds, 0.125)


def sound(seconds: float) -> np.ndarray:
    return np.arange(0.0, seconds, 0.0625)


@pytest.mark.parametrize("rate", [0.25, 0.8, 1.25, 2.0, 20.0])
@pytest.mark.parametrize("late_s", [0.0, 0.3, -0.3])
def test_pictures_that_leave_the_audio_next_to_them_are_placed_by_it(rate: float, late_s: float) -> None:
    true_s = film(40.0)
    found = rescaled(*muxed(true_s, sound(40.0), rate, late_s=late_s))
    assert found is not None
    moved, said = found
    assert moved.pts_s == pytest.approx(true_s, rel=0.001)
    assert moved.dts_s == pytest.approx(true_s, rel=0.001)
    assert moved.length_s == pytest.approx(np.full(len(true_s), 0.125), rel=0.001)
    assert moved.usual_s == pytest.approx(0.125, rel=0.001)
    assert moved.longest_s == pytest.approx(max(rate, 0.5), rel=0.001)
    assert said.startswith(f"the header is damaged: the pictures run {rate:.3g} times as fast as the audio next to them in the file")


@pytest.mark.parametrize(("pictures_s", "fps"), [(film(4.0), 8.0), (film(40.0) + 5.0, 8.0), (np.arange(0.0, 40.0, 1 / 7.5), 7.5)])
def test_a_whole_number_of_pictures_a_second_is_kept_where_places_cannot_tell(pictures_s: np.ndarray, fps: float) -> None:
    """Packets of audio that end between pictures make places inexact, by less the longer the film is."""
    found = rescaled(*muxed(pictures_s, np.arange(0.0, float(pictures_s[-1]) + 0.1, 0.09), 2.0))
    assert found is not None
    assert found[0].usual_s == (1 / fps if fps == 8.0 else pytest.approx(1 / fps, rel=0.001))
    assert found[0].pts_s == pytest.approx(pictures_s, rel=1e-9 if fps == 8.0 else 0.001)


def test_pictures_that_are_all_of_one_time_tell_nothing() -> None:
    video, audio = muxed(film(40.0), sound(40.0), 2.0)
    video.dts_s[:] = 3.0
    assert rescaled(video, audio) is None


def test_pictures_in_two_fields_have_one_time() -> None:
    video, audio = muxed(film(40.0), sound(40.0), 2.0)
    video.dts_s[1::2] = video.dts_s[::2]
    assert rescaled(video, audio) is not None


@pytest.mark.parametrize("rate", [0.92, 0.98, 1.0, 1.02, 1.09])
def test_clocks_that_nearly_agree_are_left_alone(rate: float) -> None:
    assert rescaled(*muxed(film(40.0), sound(40.0), rate)) is None


@pytest.mark.parametrize(
    ("pictures_s", "sound_s", "judged"),
    [
        (film(40.0), sound(19.0), False),  # the pictures go on without audio
        (film(40.0), sound(21.0), True),
        (film(19.0), sound(40.0), False),  # the audio goes on without pictures
        (film(21.0), sound(40.0), True),
        (film(16.0) + 24.0, sound(40.0), False),
        (film(40.0), sound(40.0) + 50.0, False),  # one track behind the other
        (film(40.0) + 50.0, sound(40.0), False),
        (film(3.0), sound(3.0), True),  # 24 pictures
        (film(3.0)[:-1], sound(3.0), False),
        (np.arange(0.0, 2.125, 0.0625), sound(2.125), True),
        (np.arange(0.0, 2.0625, 0.0625), sound(2.0625), False),  # next to less than two seconds of audio
    ],
)
def test_where_little_lies_next_to_each_other_nothing_tells(pictures_s: np.ndarray, sound_s: np.ndarray, judged: bool) -> None:
    assert (rescaled(*muxed(pictures_s, sound_s, 2.0)) is not None) == judged


@pytest.mark.parametrize(("audio_rate", "judged"), [(2.0, False), (0.5, False), (1.03, False), (0.97, False), (1.015, True)])
def test_audio_that_leaves_its_own_samples_tells_nothing(audio_rate: float, judged: bool) -> None:
    """Its own time scale is the damaged one."""
    assert (rescaled(*muxed(film(40.0), sound(40.0), 2.0, audio_rate)) is not None) == judged


@pytest.mark.parametrize(("apart_s", "judged"), [(0.5, True), (1.5, False)])
def test_places_must_lie_on_a_line(apart_s: float, judged: bool) -> None:
    """Packets that were written in turns, seconds apart: of 40 s, 0.8 may be."""
    video, audio = muxed(film(40.0), sound(40.0), 2.0)
    video.dts_s[:] = film(40.0) / 2 + apart_s / 2 * np.sin(film(40.0) / 3)
    assert (np.diff(video.dts_s) >= 0).all()
    assert (rescaled(video, audio) is not None) == judged


@pytest.mark.parametrize("track", [0, 1])
@pytest.mark.parametrize(
    "damage", ["unknown places", "a place twice", "places of another order", "no time stamp", "a clock that starts again"]
)
def test_what_is_not_in_order_tells_nothing(track: int, damage: str) -> None:
    tracks = muxed(film(40.0), sound(40.0), 2.0)
    broken = tracks[track]
    if damage == "unknown places":
        broken.place[:] = -1
    elif damage == "a place twice":
        broken.place[50] = broken.place[49]
    elif damage == "places of another order":
        broken.place[[50, 51]] = broken.place[[51, 50]]
    else:
        broken.dts_s[50] = np.nan if damage == "no time stamp" else broken.dts_s[48]
    assert rescaled(*tracks) is None


@pytest.mark.filterwarnings("error")
def test_audio_of_unknown_length_tells_nothing() -> None:
    video, audio = muxed(film(40.0), sound(40.0), 2.0)
    assert rescaled(video, replace(audio, held_s=0.0)) is None
