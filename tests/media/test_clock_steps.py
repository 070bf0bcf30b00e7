"""Each step of the repair of clocks, by small tables whose values lie on its limits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.media import clock
from omnidrop_cli.media.clock import Holes, TrackClock, clean, find_holes, jumps_among, split_at_breaks

NAN = np.nan


def stamps(*times_s: float) -> np.ndarray:
    return np.array(times_s, float)


def track(order: Sequence[int], decode_s: Sequence[float], length_s: float | Sequence[float] = 1.0) -> TrackClock:
    """A track without missing time stamps that shows every picture when it is decoded."""
    decode = np.array(decode_s, float)
    return TrackClock(np.array(order), decode, decode.copy(), np.broadcast_to(np.asarray(length_s, float), decode.shape).copy())


def cleaned(pts_s: Sequence[float], dts_s: Sequence[float], length_s: float = 0.125) -> TrackClock:
    count = len(pts_s)
    return clean(np.arange(count), np.array(pts_s, float), np.array(dts_s, float), np.full(count, length_s))


# ---------------------------------------------------------------- single time stamps


@pytest.mark.parametrize(
    ("times", "wrong"),
    [
        ((0.0, 0.5, 50.0, 1.0, 1.5), [2]),
        ((0.0, 0.5, -50.0, 1.0, 1.5), [2]),
        ((0.0, 0.1, 0.8, 0.2, 0.3), [2]),
        ((0.0, 0.3, 0.0, 0.1), []),  # a step of no more than 0.3 s is jitter
        ((0.0, 0.5, 1.0, 1.1), []),  # twice ahead
        ((0.0, 1.0, *[50.0] * 8, 2.0), list(range(2, 10))),
        ((0.0, 1.0, *[50.0] * 9, 2.0), []),  # nine are no accident
        ((0.0, 1.0, 50.0, 6.0, 6.5), [2]),
        ((0.0, 1.0, 50.0, 6.5, 7.0), []),  # the clock jumped ahead meanwhile
        ((0.3, 50.0, 0.1, 0.2), [1]),
        ((0.3, 50.0, 0.0, 0.1), []),  # the clock started again meanwhile
        ((0.0, 0.5, NAN, 50.0, NAN, 1.0), [3]),
        ((0.0, 50.0), []),
    ],
)
def test_short_runs_that_jump_away_and_come_back_are_damaged(times: tuple[float, ...], wrong: list[int]) -> None:
    given_s = stamps(*times)
    expected = given_s.copy()
    expected[wrong] = NAN
    assert np.array_equal(clock._without_outliers(given_s), expected, equal_nan=True)


@pytest.mark.parametrize(
    ("times", "lengths", "filled"),
    [
        ((NAN, NAN, NAN), (1, 2, 3), (0, 1, 3)),
        ((10, NAN, NAN), (1, 2, 3), (10, 11, 13)),
        ((NAN, 5, NAN), (1, 2, 3), (4, 5, 7)),
        ((0, NAN, 9, NAN), (1, 2, 3, 4), (0, 1, 9, 12)),
    ],
)
def test_packets_without_a_time_stamp_follow_the_one_before(times: tuple[float, ...], lengths: tuple[float, ...], filled: object) -> None:
    assert clock._filled(stamps(*times), stamps(*lengths)) == pytest.approx(filled)


DECODED = [100.0 + 0.125 * n for n in range(40)]
AHEAD = [0.3, 0.2, 0.4, 0.3] * 10
"""How long after its decoding a picture is shown: usually 0.3 s."""


def shown_with(at: int, pts_by_s: float, dts_by_s: float) -> float:
    """What is found for the presentation time of packet `at`, whose time stamps are moved, less its decoding time."""
    pts, dts = np.add(DECODED, AHEAD), np.array(DECODED)
    pts[at] += pts_by_s
    dts[at] += dts_by_s
    found = cleaned(pts.tolist(), dts.tolist())
    others = np.arange(len(pts)) != at
    assert found.decode_s == pytest.approx(DECODED)
    assert found.shown_s[others] == pytest.approx(np.add(DECODED, AHEAD)[others])
    return float(found.shown_s[at] - DECODED[at])


@pytest.mark.parametrize(
    ("pts_by_s", "dts_by_s", "ahead_s"),
    [
        (0.0, 0.0, 0.2),
        (NAN, 0.0, 0.3),
        (50.0, 50.0, 0.2),  # both are moved back
        (0.5, 0.5, 0.2),
        (-0.5, -0.5, 0.2),
        (0.0, -0.5, 0.2),  # the decoding time alone is damaged
        (0.0, 50.0, 0.2),
        (-1.0, 0.0, -0.8),
        (-1.5, 0.0, 0.3),  # shown more than a second before it is decoded
        (2.125 + 5.0 - 0.25, 0.0, 2.125 + 5.0 - 0.05),
        (2.125 + 5.0 - 0.15, 0.0, 0.3),  # seventeen packets are 2.125 s
        (1e6, 0.0, 0.3),
    ],
)
def test_a_damaged_presentation_time_is_moved_with_its_decoding_time_or_replaced(pts_by_s: float, dts_by_s: float, ahead_s: float) -> None:
    assert shown_with(9, pts_by_s, dts_by_s) == pytest.approx(ahead_s)


def test_the_latest_time_at_which_a_picture_may_be_shown_is_included() -> None:
    dts = [0.5 * n for n in range(40)]
    pts = dts.copy()
    pts[3] = dts[3 + 17] + 5.0
    assert cleaned(pts, dts).shown_s[3] == pts[3]
    assert cleaned([dts[0] - 1.0, *dts[1:]], dts).shown_s[0] == -1.0


def test_without_any_presentation_time_pictures_are_shown_when_they_are_decoded() -> None:
    assert cleaned([NAN] * 3, [5.0, 5.5, 6.0]).shown_s == pytest.approx([5.0, 5.5, 6.0])
    assert cleaned([5.0, 5.5, 6.0], [NAN] * 3).decode_s == pytest.approx([5.0, 5.5, 6.0])


@pytest.mark.parametrize(
    ("before", "behind_s", "early", "moved"),
    [
        (4, 100.0, 2, 2),
        (4, 100.0, 4, 4),  # all of them
        (20, 100.0, 20, 17),  # no more than a decoder holds
        (4, 1.5 + 5.0, 2, 0),  # 5 s are no jump
        (4, 1.5 + 5.5, 2, 2),
    ],
)
def test_pictures_of_behind_a_jump_are_decoded_behind_it(before: int, behind_s: float, early: int, moved: int) -> None:
    """`early` pictures in front of a jump of the decoding times are shown behind it."""
    decode = stamps(*(0.5 * n for n in range(before)), behind_s, behind_s + 0.5)
    shown = decode.copy()
    shown[before - early : before] = behind_s - 1.0  # a second early at most
    found = decode.copy()
    clock._follow_jumps(found, shown)
    expected = decode.copy()
    expected[before - moved : before] = behind_s
    assert found.tolist() == expected.tolist()
    shown[before - early : before] = behind_s - 1.125
    found = decode.copy()
    clock._follow_jumps(found, shown)
    assert found.tolist() == decode.tolist()


# ---------------------------------------------------------------- breaks


@pytest.mark.parametrize(
    ("times", "length_s", "breaks"),
    [
        ((0.0, 1.0, 2.0), 1.0, []),
        ((0.3, 0.0), 1.0, []),
        ((0.5, 0.0), 1.0, [1]),
        ((0.0, 6.0), 1.0, []),
        ((0.0, 6.5), 1.0, [1]),
        ((0.0, 6.5), 2.0, []),
        ((0.0, 6.5, 0.0, 6.5), 1.0, [1, 2, 3]),
    ],
)
def test_breaks(times: tuple[float, ...], length_s: float, breaks: list[int]) -> None:
    assert clock._breaks(track(range(len(times)), times, length_s)).tolist() == breaks


@pytest.mark.parametrize(
    ("mine", "other", "breaks", "k", "follows"),
    [
        ([0, 2, 4], [1, 3, 5], [1], 0, True),
        ([0, 2, 4], [1, 3, 5], [1], 1, True),
        ([0, 2, 4], [1, 3, 5], [1], 2, False),  # it has broken before
        ([0, 2, 4], [1, 3, 5], [], 0, False),
        ([0, 8, 9], [1, 3, 5], [1], 0, False),  # 30 s apart there
        ([2, 4, 6], [0, 3, 5], [1], 0, False),
        ([2, 4, 6], [0, 1, 5], [1], 0, False),  # there is nothing to compare with
    ],
)
def test_a_track_follows_where_it_breaks_to_the_time_of_the_other(
    mine: list[int], other: list[int], breaks: list[int], k: int, follows: bool
) -> None:
    for apart_s in (-5.0, 0.0, 5.0):
        near = track(other, [900.0, 10.0 + apart_s, 10.0])
        assert clock._follows(track(mine, [-20.0, 10.0, 10.0]), near, np.array(breaks, int), k) == follows
        assert not clock._follows(track(mine, [-20.0, 10.0, 10.0]), track(other, [10.0, 15.5, 10.0]), np.array(breaks, int), k)
    assert clock._follows(track([2, 4], [10.0, 40.0]), track([0, 3], [900.0, 10.0]), np.array([1]), 0)


def labels(*tracks: TrackClock) -> list[list[int]]:
    return [found.tolist() for found in split_at_breaks(tracks)]


@pytest.mark.parametrize(("apart_s", "moved"), [(-5.0, False), (5.0, False), (-5.5, True), (5.5, False)])
def test_a_track_pauses_where_the_other_shows_nearly_the_same_time(apart_s: float, moved: bool) -> None:
    """It jumps ahead from 1 s to 7.5 s. Farther from the other track it has left it, if the other went on where it stood."""
    mine, other = track([0, 2, 4, 6], [0.0, 1.0, 7.5, 8.5]), track([1, 3, 5, 7], [0.0, 1.0, 7.5 + apart_s, 8.5 + apart_s], 9.0)
    before = mine.decode_s.copy()
    assert labels(mine, other) == [[0] * 4, [0] * 4]
    assert (mine.decode_s != before).any() == moved
    assert np.array_equal(mine.decode_s, mine.shown_s)


@pytest.mark.parametrize(("apart_s", "new"), [(5.0, True), (5.5, False)])
def test_the_second_track_to_jump_lands_near_the_first(apart_s: float, new: bool) -> None:
    """The first is four seconds ahead where the second jumps, and one packet later five."""
    mine = track([0, 2, 4, 6, 8, 10, 12, 14], [0, 1, 2, 100, 101, 102, 103, 103.5 + apart_s / 10])
    other = track([1, 3, 5, 7, 13, 15], [0, 1, 2, 3, mine.decode_s[7] - apart_s, mine.decode_s[7] - apart_s + 1])
    assert labels(mine, other)[0] == [0, 0, 0, 1, 1, 1, 1, 1]
    assert labels(mine, other)[1] == ([0, 0, 0, 0, 1, 1] if new else [0] * 6)


@pytest.mark.parametrize(("apart_s", "both"), [(0.0, True), (1.0, True), (-1.0, True), (1.5, False), (-1.5, False)])
def test_one_starts_again_where_the_other_shows_the_same_time(apart_s: float, both: bool) -> None:
    """Then a new recording begins for both; farther from it, the track that started again is moved back."""
    mine, other = track([0, 2, 4, 6], [9, 10, 2, 3]), track([1, 3, 5, 7], [0, 0.25, 2 + apart_s, 3 + apart_s])
    assert labels(mine, other) == ([[0, 0, 1, 1], [0, 0, 1, 1]] if both else [[0] * 4, [0] * 4])
    assert mine.decode_s.tolist() == [9, 10, *([2, 3] if both else [2 + apart_s, 3 + apart_s])]
    assert np.array_equal(mine.decode_s, mine.shown_s)


@pytest.mark.parametrize(
    ("step_s", "lengths", "moved"),
    [
        (-1.0, [1, 1, 1, 1], True),
        (-1.5, [1, 1, 1, 1], False),
        (5.0, [1, 1, 1, 1], True),
        (5.5, [1, 1, 1, 1], False),
        (8.0, [1, 8, 1, 1], True),  # a slide that stays for 8 s
        (8.0, [8, 1, 8, 8], False),
    ],
)
def test_a_track_that_jumps_alone_is_moved_to_where_the_other_goes_on(step_s: float, lengths: list[float], moved: bool) -> None:
    mine, other = track([0, 2, 4, 6], [0, 10, 900, 901], lengths), track([1, 3, 5, 7], [0, 9, 10 + step_s, 11 + step_s], 20.0)
    assert labels(mine, other) == [[0] * 4, [0] * 4]
    assert mine.decode_s.tolist() == [0, 10, *([10 + step_s, 11 + step_s] if moved else [900, 901])]


def test_a_track_that_leaves_the_other_twice_is_moved_back_twice() -> None:
    mine = track(range(0, 24, 2), [0, 1, 902, 903, 4, 5, 806, 807, 808, 9, 10, 11])
    other = track(range(1, 25, 2), [n + 0.5 for n in range(12)])
    assert labels(mine, other) == [[0] * 12, [0] * 12]
    assert mine.decode_s == pytest.approx(np.arange(12), abs=1.01)
    assert np.array_equal(mine.decode_s, mine.shown_s)


TIMES = st.lists(st.sampled_from([1.0, 1.0, 1.0, 7.0, 900.0, -3.0, -900.0]), min_size=3, max_size=9)


@given(TIMES, TIMES, st.randoms(use_true_random=False))
def test_it_does_not_matter_which_track_is_named_first(one: list[float], two: list[float], random: object) -> None:
    places = list(range(len(one) + len(two)))
    random.shuffle(places)  # type: ignore[attr-defined]
    orders = sorted(places[: len(one)]), sorted(places[len(one) :])

    def tracks() -> list[TrackClock]:
        return [track(order, np.cumsum(steps).tolist()) for order, steps in zip(orders, (one, two), strict=True)]

    there, back = tracks(), tracks()[::-1]
    assert labels(*there) == labels(*back)[::-1]
    for clock_there, clock_back in zip(there, back[::-1], strict=True):
        assert np.array_equal(clock_there.decode_s, clock_back.decode_s)


# ---------------------------------------------------------------- holes


def test_holes_lie_between_the_packets_of_all_tracks() -> None:
    starts, lengths = stamps(8.0, 0.0, 1.0, 3.0, 20.0), stamps(1.0, 1.0, 1.0, 2.0, 1.0)
    for least_s, expected in ((0.5, [(3, 1), (8, 3), (20, 11)]), (1.0, [(8, 3), (20, 11)]), (3.0, [(20, 11)]), (11.0, [])):
        found = find_holes(starts, lengths, least_s)
        assert list(zip(found.at_s.tolist(), found.by_s.tolist(), strict=True)) == expected
    assert not len(find_holes(stamps(0.0, 1.0, 2.0), stamps(9.0, 1.0, 1.0), 0.0).at_s), "a long packet fills them"


def test_holes_taken_out() -> None:
    holes = Holes(stamps(10.0, 20.0), stamps(4.0, 5.0))
    assert holes.closed(stamps(5.0, 9.5, 10.0, 19.5, 20.0, 30.0)) == pytest.approx([5.0, 9.5, 6.0, 15.5, 11.0, 21.0])
    assert holes.closed(stamps(10.0 - 1e-12)) == pytest.approx([6.0]), "rounding does not put a packet before its hole"
    assert holes[np.array([False, True])].closed(stamps(10.0, 20.0)) == pytest.approx([10.0, 15.0])


@pytest.mark.parametrize(
    ("by_s", "last_audio_s", "jumping_format", "jumps"),
    [
        (5.0, 99.0, False, False),
        (5.5, 99.0, False, True),
        (5.5, 10.0, False, True),
        (5.5, 9.5, False, False),  # a picture that stays
        (5.5, 9.5, True, True),
        (1800.0, 9.5, False, False),
        (1800.5, 9.5, False, True),
        (5.5, -np.inf, False, False),
    ],
)
def test_which_holes_are_jumps(by_s: float, last_audio_s: float, jumping_format: bool, jumps: bool) -> None:
    assert len(jumps_among(Holes(stamps(10.0), stamps(by_s)), last_audio_s, jumping_format).at_s) == jumps
