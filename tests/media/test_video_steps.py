"""Each step of decoding frames: which packets are read, decoded or leapt over, and what becomes of a decoded frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from omnidrop_cli.media import video
from omnidrop_cli.media.container import Source
from omnidrop_cli.media.packets import Numbering
from omnidrop_cli.media.seek_plan import Action
from omnidrop_cli.media.timeline import NO_PTS, VideoTrack
from omnidrop_cli.outputs import VideoStream
from tests.media.tracks import video_track


class File:
    """A container and a decoder: packets by number, some of them unknown to the track; every packet gives a frame at once."""

    def __init__(self, pts: Sequence[int], lands: int | None = None) -> None:
        self._pts, self._lands, self._at = list(pts), lands, 0
        self.read: list[int] = []
        self.seeks: list[int] = []
        self.decoded: list[tuple[int | None, str]] = []
        self.flushed: list[int] = []
        self.skip_frame = "DEFAULT"

    def demux(self, *_: Any) -> Iterator[Any]:
        while self._at < len(self._pts):
            self._at += 1
            self.read.append(self._pts[self._at - 1])
            yield SimpleNamespace(pts=self._pts[self._at - 1], size=9)

    def seek(self, pts: int, stream: Any) -> None:
        self.seeks.append(pts)
        self._at = self._pts.index(pts) if self._lands is None else self._lands

    def decode(self, packet: Any) -> list[Any]:
        self.decoded.append((None if packet is None else packet.pts, self.skip_frame))
        return [] if packet is None else [SimpleNamespace(pts=packet.pts)]

    def flush_buffers(self) -> None:
        self.flushed.append(len(self.decoded))


def track_of(count: int, timed: bool = True) -> VideoTrack:
    """Packets with the time stamps 0, 10, 20 ..."""
    track = video_track([n * 0.04 for n in range(count)])
    track.pts[:] = np.arange(count) * 10 if timed else NO_PTS
    track.size[:] = 9
    return track if timed else replace(track, timed=False)


def decoder(file: File, track: VideoTrack, margin: int = 0) -> Any:
    found: Any = object.__new__(video._PartDecoder)
    found._container = found._codec = file
    found._track, found._stream, found._margin, found._shown = track, None, margin, 0
    found._numbering = Numbering(track, 0)
    return found


def plan_for(count: int, shown: Sequence[int], references: Sequence[int] = ()) -> np.ndarray:
    actions = np.full(count, Action.DROP, np.int8)
    actions[list(references)] = Action.REFERENCE
    actions[list(shown)] = Action.SHOW
    return actions


def test_only_what_is_needed_is_decoded_and_nothing_is_read_behind_it() -> None:
    file, track = File(range(0, 200, 10)), track_of(20)
    frames = list(decoder(file, track).decode(plan_for(20, [3, 4, 9], [2, 8]), False))
    assert [number for number, _ in frames] == [2, 3, 4, 8, 9]
    assert file.read == list(range(0, 110, 10)), "the packet behind the last tells that there is no more"
    decoded = [(2, "NONREF"), (3, "DEFAULT"), (4, "DEFAULT"), (None, "DEFAULT"), (8, "NONREF"), (9, "DEFAULT"), (None, "DEFAULT")]
    assert file.decoded == decoded
    assert file.flushed == [4], "between groups the decoder is drained and emptied, once"
    assert file.seeks == []


def test_one_packet_that_is_left_out_divides_groups() -> None:
    file = File(range(0, 100, 10))
    assert [number for number, _ in decoder(file, track_of(10)).decode(plan_for(10, [0, 2]), False)] == [0, 2]
    assert [packet for packet, _ in file.decoded] == [0, None, 2, None]
    assert file.flushed == [2]


@pytest.mark.parametrize(("far", "leap", "seeks"), [(258, True, [2_580]), (257, True, []), (300, False, [])])
def test_more_than_256_packets_are_leapt_over(far: int, leap: bool, seeks: list[int]) -> None:
    """Packet 1 is the first that is not needed."""
    file, track = File(range(0, 10 * 400, 10)), track_of(400)
    frames = list(decoder(file, track).decode(plan_for(400, [0, far]), leap))
    assert [number for number, _ in frames] == [0, far]
    assert file.seeks == seeks
    assert len(file.read) == (4 if seeks else far + 2)


def test_a_leap_aims_a_margin_before_the_target() -> None:
    file = File(range(0, 10 * 400, 10))
    assert len(list(decoder(file, track_of(400), margin=50).decode(plan_for(400, [0, 300]), True))) == 2
    assert file.seeks == [2_950]
    assert file.read[2:] == list(range(2_950, 3_020, 10))


def test_a_seek_that_leads_back_is_not_tried_again() -> None:
    file = File(range(0, 10 * 400, 10), lands=0)
    frames = list(decoder(file, track_of(400)).decode(plan_for(400, [2, 300]), True))
    assert file.seeks == [3_000]
    assert [number for number, _ in frames] == [2, 2, 300]


@pytest.mark.parametrize(("unknown", "found"), [(64, [0, 300]), (65, [0])])
def test_where_a_seek_leads_to_unknown_packets_it_is_given_up(unknown: int, found: list[int]) -> None:
    places = [*range(0, 10 * 300, 10), *[5] * unknown, *range(3_000, 4_000, 10)]
    file = File(places, lands=300)
    assert [number for number, _ in decoder(file, track_of(400)).decode(plan_for(400, [0, 300]), True)] == found
    plain = File(places)
    assert [number for number, _ in decoder(plain, track_of(400)).decode(plan_for(400, [0, 300]), False)] == [0, 300]


def test_unknown_packets_are_counted_in_a_row() -> None:
    places = [*range(0, 10 * 290, 10), *[5] * 40, 2_900, *[5] * 40, *range(2_910, 4_000, 10)]
    file = File(places, lands=290)
    assert [number for number, _ in decoder(file, track_of(400)).decode(plan_for(400, [0, 300]), True)] == [0, 300]


def test_without_time_stamps_pictures_are_counted() -> None:
    file: Any = File([0] * 5)
    file.demux = lambda *_: iter(SimpleNamespace(pts=None, size=9) for _ in range(5))
    frames = list(decoder(file, track_of(5, timed=False)).decode(plan_for(5, range(5)), False))
    assert [number for number, _ in frames] == [0, 1, 2, 3, 4]


# ---------------------------------------------------------------- attempts


def test_plans_are_tried_from_the_most_economical() -> None:
    track = video_track([0, 1, 2, 3], [False, True, False, False])
    found = list(video._attempts(track, np.array([2])))
    assert [leap for _, leap in found] == [True, False, False]
    assert [actions.tolist() for actions, _ in found] == [[0, 1, 2, 0], [0, 1, 2, 0], [0, 2, 2, 2]]
    joined = video_track([0, 1, 2, 3])
    joined.stretch[2:] = 1
    assert [leap for _, leap in video._attempts(joined, np.array([2]))] == [False, False], "time stamps name several places"
    untimed = list(video._attempts(track_of(3, timed=False), np.array([1])))
    assert [(actions.tolist(), leap) for actions, leap in untimed] == [([2, 2, 2], False)]
    keyless = list(video._attempts(video_track([0, 1, 2], [False] * 3), np.array([1])))
    assert keyless[-1][0].tolist() == [2, 2, 2]


def grey(level: int) -> Any:
    return av.VideoFrame.from_ndarray(np.full((28, 28, 3), level, np.uint8), format="rgb24")


def chosen(packets: Sequence[int]) -> Any:
    return SimpleNamespace(packets=np.array(packets), size=(28, 28))


@pytest.mark.parametrize(
    ("passes", "levels", "lost", "tried"),
    [
        ([[0, 1, 2, 3]], [10, 10, 20, 30], 0, 1),
        ([[3, 2, 1, 0, 9]], [10, 10, 20, 30], 0, 1),
        ([[1], [2, 3]], [10, 10, 20, 30], 0, 2),
        ([[1], [3], []], [10, 10, 10, 30], 1, 3),
        ([[3], [], []], [30, 30, 30, 30], 3, 3),
        ([[], [], []], [], 4, 3),
    ],
)
def test_frames_that_stay_away_are_looked_for_again(
    passes: list[list[int]], levels: list[int], lost: int, tried: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wanted are packets 1, 1, 2 and 3. A frame that is lost repeats the one before."""
    calls, done = iter(passes), list[int]()
    given: list[int] = []

    def decode(*_: Any) -> Iterator[tuple[int, Any]]:
        given.append(len(given))
        for number in next(calls):
            yield number, grey(number * 10)

    monkeypatch.setattr(video, "_decode", decode)
    stream = VideoStream("", 28, 28, 25.0, None)
    found = video.read_frames(Source(Path("a"), 0, 0, ()), track_of(5), chosen([1, 1, 2, 3]), stream, done.append)
    assert [int(frame[0, 0, 0]) for frame in found.pixels] == levels
    assert (found.lost, len(given)) == (lost, tried)
    if tried == 1:
        assert done == ([0, 2, 3] if passes[0][0] == 0 else [1, 2])


# ---------------------------------------------------------------- frames


def corners(rotation_deg: int, mirrored: bool) -> str:
    """Of a picture whose corners are R G / B W."""
    pixels = np.zeros((56, 84, 3), np.uint8)
    for rows, columns, colour in (
        (slice(28), slice(42), (255, 0, 0)),
        (slice(28), slice(42, None), (0, 255, 0)),
        (slice(28, None), slice(42), (0, 0, 255)),
        (slice(28, None), slice(42, None), (255, 255, 255)),
    ):
        pixels[rows, columns] = colour
    facts = VideoStream("", 84, 56, 25.0, None, rotation_deg=rotation_deg, mirrored=mirrored)
    size = (56, 84) if rotation_deg % 180 == 0 else (84, 56)
    shown = video.shrinker(size, facts)(av.VideoFrame.from_ndarray(pixels, format="rgb24"))
    assert shown.shape == (3, *size)
    names = {(True, False, False): "R", (False, True, False): "G", (False, False, True): "B", (True, True, True): "W"}
    return "/".join("".join(names[tuple(bool(v) for v in shown[:, y, x] > 127)] for x in (4, -5)) for y in (4, -5))


@pytest.mark.parametrize(
    ("rotation_deg", "mirrored", "seen"),
    [
        (0, False, "RG/BW"), (90, False, "GW/RB"), (180, False, "WB/GR"), (270, False, "BR/WG"),
        (0, True, "GR/WB"), (90, True, "RB/GW"), (180, True, "BW/RG"), (270, True, "WG/BR"),
    ],
)  # fmt: skip
def test_pictures_are_turned_upright(rotation_deg: int, mirrored: bool, seen: str) -> None:
    assert corners(rotation_deg, mirrored) == seen


def test_transparent_pixels_lie_on_white() -> None:
    pixels = np.array([[[10, 20, 30, 0], [10, 20, 30, 255]], [[10, 20, 30, 128], [0, 0, 255, 1]]], np.uint8)
    found = video._on_white(av.VideoFrame.from_ndarray(pixels, format="rgba")).to_ndarray(format="rgb24")
    assert found.tolist() == [[[255, 255, 255], [10, 20, 30]], [[132, 137, 142], [254, 254, 255]]]
    pixels[..., 3] = 255
    for opaque in (av.VideoFrame.from_ndarray(pixels, format="rgba"), grey(5)):
        assert video._on_white(opaque) is opaque
    pixels[0, 0, 3] = 254
    nearly = video._on_white(av.VideoFrame.from_ndarray(pixels, format="rgba")).to_ndarray(format="rgb24")
    assert nearly[0, 0].tolist() == [11, 21, 31]


@pytest.mark.parametrize(
    ("width", "height", "lit"),
    [(101, 100, (112, 112)), (103, 100, (109, 112)), (100, 103, (112, 109)), (10_000, 40, (1, 112)), (40, 10_000, (112, 1))],
)
def test_two_hundredths_are_no_other_shape(width: int, height: int, lit: tuple[int, int]) -> None:
    shrink = video.shrinker((112, 112), VideoStream("", 100, 100, 25.0, None))
    shown = shrink(av.VideoFrame.from_ndarray(np.full((height, width, 3), 255, np.uint8), format="rgb24")).min(axis=0) > 60
    assert (int(shown.any(axis=1).sum()), int(shown.any(axis=0).sum())) == lit
