"""The plan decodes everything a wanted frame depends on, and no group without one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.media.seek_plan import Action, plan
from omnidrop_cli.media.timeline import VideoTrack
from tests.media.tracks import video_track


def closed_groups(sizes: list[int]) -> VideoTrack:
    """Groups of the given sizes, each I P B P B ... in decoding order, as an encoder with one B-frame writes them."""
    times, keys, start = [], [], 0
    for size in sizes:
        order = [0]
        for p in range(2, size, 2):
            order += [p, p - 1]
        order += [size - 1] if size % 2 == 0 and size > 1 else []
        times += [(start + k) / 10 for k in order]
        keys += [i == 0 for i in range(size)]
        start += size
    return video_track(times, keys)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.data())
def test_plan(sizes: list[int], data: st.DataObject) -> None:
    track = closed_groups(sizes)
    wanted = np.array(sorted(data.draw(st.sets(st.integers(0, len(track) - 1), min_size=1, max_size=6))))
    actions = plan(track, wanted)
    assert set(np.flatnonzero(actions == Action.SHOW)) == set(wanted)
    keys = np.flatnonzero(track.keyframe)
    for packet in wanted:  # all the way from its key frame
        assert (actions[keys[keys <= packet].max() : packet + 1] != Action.DROP).all()
    for first, end in zip(keys, [*keys[1:], len(track)], strict=True):  # and nothing after the last wanted one of a group
        inside = wanted[(wanted >= first) & (wanted < end)]
        assert (actions[(inside.max() + 1 if len(inside) else first) : end] == Action.DROP).all()


def test_a_leading_frame_needs_the_group_before() -> None:
    # Decoding order I0 P2 B1 | I5 B3 B4 P6: 3 and 4 are shown before the key frame 5 and may depend on 2.
    track = video_track([0, 2, 1, 5, 3, 4, 6], [True, False, False, True, False, False, False])
    assert plan(track, np.array([5])).tolist() == [1, 1, 1, 1, 1, 2, 0]


def test_the_second_field_is_decoded_with_the_first() -> None:
    track = video_track([0, 0, 1, 1, 2], [True, False, False, False, False])
    assert track.shown.tolist() == [True, False, True, False, True]
    assert plan(track, np.array([2])).tolist() == [1, 1, 2, 2, 0]


def test_a_leading_frame_of_the_third_group_needs_the_second() -> None:
    track = video_track([0, 1, 2, 3, 6, 4, 5], [True, False, True, False, True, False, False])
    assert plan(track, np.array([5])).tolist() == [0, 0, 1, 1, 1, 2, 0]


def test_without_a_key_frame_everything_before_is_decoded() -> None:
    assert plan(video_track([0, 1, 2, 3], [False] * 4), np.array([2])).tolist() == [1, 1, 2, 0]


def test_packets_in_front_of_the_first_key_frame_are_not_decoded() -> None:
    assert plan(video_track([0, 1, 2, 3], [False, True, False, False]), np.array([2])).tolist() == [0, 1, 2, 0]


def test_a_hidden_picture_of_a_frame_later_is_no_second_field() -> None:
    track = video_track([0.0, 0.5, 1.0, 1.5])
    track.shown[1] = False
    assert plan(track, np.array([0])).tolist() == [2, 0, 0, 0]
