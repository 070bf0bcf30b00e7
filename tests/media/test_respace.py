"""Pictures that a damaged header spreads over hours are spread over the time that the rest of the file fills."""

from __future__ import annotations

import numpy as np
import pytest

from omnidrop_cli.media.respace import respaced
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
