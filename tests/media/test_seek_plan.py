"""The plan decodes everything a wanted frame depends on, and no group without one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.media.seek_plan import Action, PacketIndex, Row, index_packets, plan


def closed_groups(sizes: list[int]) -> PacketIndex:
    """Groups of the given sizes, each I P B P B ... in decoding order, as an encoder with one B-frame writes them."""
    rows, start = [], 0
    for size in sizes:
        order = [0]
        for p in range(2, size, 2):
            order += [p, p - 1]
        order += [size - 1] if size % 2 == 0 and size > 1 else []
        rows += [Row(start + k, 1, i == 0, True) for i, k in enumerate(order)]
        start += size
    return index_packets(rows, 0.1, 0.0, 10.0)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.data())
def test_plan(sizes: list[int], data: st.DataObject) -> None:
    index = closed_groups(sizes)
    wanted = np.array(sorted(data.draw(st.sets(st.integers(0, len(index) - 1), min_size=1, max_size=6))))
    actions = plan(index, wanted)
    assert set(np.flatnonzero(actions == Action.SHOW)) == set(wanted)
    keys = np.flatnonzero(index.keyframe)
    for packet in wanted:  # all the way from its key frame
        assert (actions[keys[keys <= packet].max() : packet + 1] != Action.DROP).all()
    for first, end in zip(keys, [*keys[1:], len(index)], strict=True):  # and nothing after the last wanted one of a group
        inside = wanted[(wanted >= first) & (wanted < end)]
        assert (actions[(inside.max() + 1 if len(inside) else first) : end] == Action.DROP).all()


def test_a_leading_picture_needs_the_group_before() -> None:
    # Decoding order I0 P2 B1 | I5 B3 B4 P6: 3 and 4 are shown before the key frame 5 and may depend on 2.
    rows = [Row(pts, 1, pts in (0, 5), True) for pts in (0, 2, 1, 5, 3, 4, 6)]
    actions = plan(index_packets(rows, 1.0, 0.0, 1.0), np.array([5]))
    assert actions.tolist() == [1, 1, 1, 1, 1, 2, 0]


def test_index_orders_by_presentation() -> None:
    stamps = [(0, True, True), (20, False, True), (10, False, True), (10, False, True), (-10, False, False)]
    index = index_packets([Row(pts, 10, key, shown) for pts, key, shown in stamps], 0.1, 0.0, 10.0)
    assert index.pts.tolist() == [0, 20, 10, -10]
    assert index.times_s[index.within(0, 100)].tolist() == [0.0, 1.0, 2.0]
    assert index.times_s[index.within(1.2, 2.0)].tolist() == [1.0]


def test_the_last_picture_stays_as_long_as_it_says() -> None:
    assert index_packets([Row(0, 10, True, True), Row(10, 400, False, True)], 0.1, 0.0, 1.0).end_s == 41.0
    assert index_packets([Row(0, None, True, True), Row(10, None, False, True)], 0.1, 0.0, 1.0).end_s == 2.0


def test_packets_without_times_are_counted() -> None:
    index = index_packets([Row(None, 1, True, True), Row(None, 1, False, True), Row(7, 1, False, True)], 0.1, 0.0, 10.0)
    assert not index.timed
    assert np.allclose(index.times_s, [0, 0.1, 0.2])


def test_an_empty_track() -> None:
    index = index_packets([], 0.1, 0.0, 10.0)
    assert len(index) == 0
    assert len(index.within(0, 1)) == 0
