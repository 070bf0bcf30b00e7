"""What is noted of a track's packets, for streams that no encoder at hand writes: damaged ones, odd lengths, decoders that fail."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from omnidrop_cli.media import packets
from omnidrop_cli.media.packets import Numbering, Picture, Sound, TrackReader, orientation
from omnidrop_cli.media.timeline import NO_PTS, TrackPackets

PICTURE = SimpleNamespace(width=64, height=48, sample_rate=8_000, samples=9, layout=SimpleNamespace(nb_channels=2), side_data={})


class Packet(bytes):
    """A packet of PyAV as far as it is looked at. Times in milliseconds."""

    def __new__(cls, content: bytes = b"\x82" * 10, **_: Any) -> Packet:
        return super().__new__(cls, content)

    def __init__(self, content: bytes = b"\x82" * 10, key: bool = False, **given: Any) -> None:
        self.size, self.is_keyframe = len(content), key
        self.pts, self.dts, self.duration, self.is_corrupt, self.is_discard, self.cut = 0, 0, None, False, False, b""
        self.pos: int | None = None
        self.__dict__ |= given

    def has_sidedata(self, name: str) -> bool:
        return bool(self.cut) and name == "skip_samples"

    def get_sidedata(self, name: str) -> bytes:
        return self.cut


class Decoder:
    """A decoder that gives `frames` for packets beginning with number `since`, and remembers what it was fed."""

    def __init__(self, name: str, frames: Sequence[Any], since: float, error: type[Exception] | None) -> None:
        self.name, self.thread_count = name, 0
        self.fed: list[Any] = []
        self._frames, self._since, self._error = frames, since, error

    def decode(self, packet: Any) -> list[Any]:
        self.fed.append(packet)
        if self._error is not None:
            raise self._error("damaged")
        return list(self._frames) if len(self.fed) > self._since else []


def reader(
    kind: str = "video",
    codec: str = "h264",
    frames: Sequence[Any] = (),
    since: float = 0,
    form: str = "mov",
    error: type[Exception] | None = None,
) -> tuple[TrackReader, Decoder]:
    decoder = Decoder(codec, frames, since, error)
    container = SimpleNamespace(format=SimpleNamespace(name=form))
    stream = SimpleNamespace(type=kind, codec_context=decoder, container=container, time_base=Fraction(1, 1000))
    return TrackReader(stream), decoder


def sound(samples: int, rate_hz: int = 8_000) -> Any:
    return SimpleNamespace(width=0, height=0, sample_rate=rate_hz, samples=samples, layout=SimpleNamespace(nb_channels=2))


def read(given: TrackReader, *some: Packet, usual_s: float = 0.25) -> TrackPackets:
    for order, packet in enumerate(some):
        given.add(3 * order, packet)
    given.finish()
    assert len(given) == len(some)
    return given.packets(usual_s)


# ---------------------------------------------------------------- what a packet says


@pytest.mark.parametrize("kind", ["video", "audio"])
@pytest.mark.parametrize("key", [False, True])
@pytest.mark.parametrize("corrupt", [False, True])
@pytest.mark.parametrize("outside", [False, True])
def test_a_damaged_picture_is_hidden_and_damaged_audio_is_played(kind: str, key: bool, corrupt: bool, outside: bool) -> None:
    found = read(reader(kind)[0], Packet(key=key, is_corrupt=corrupt, is_discard=outside))
    assert (found.keyframe[0], found.outside[0]) == (key, outside)
    assert found.hidden[0] == (outside or (corrupt and kind == "video"))


def test_what_a_packet_says() -> None:
    cut = struct.pack("<IIBB", 800, 1_600, 0, 0)
    given, _ = reader("audio", frames=[sound(4_000)])
    found = read(given, Packet(pts=500, dts=None, duration=250), Packet(b"abc", pts=None, dts=1_500, cut=cut, pos=77))
    assert found.order.tolist() == [0, 3]
    assert found.place.tolist() == [-1, 77]
    assert found.pts.tolist() == [500, NO_PTS]
    assert found.size.tolist() == [10, 3]
    assert np.array_equal(found.pts_s, [0.5, np.nan], equal_nan=True)
    assert np.array_equal(found.dts_s, [np.nan, 1.5], equal_nan=True)
    assert found.length_s.tolist() == [0.25, 0.0]
    assert (found.skip_s.tolist(), found.trim_s.tolist()) == ([0.0, 0.1], [0.0, 0.2])
    video = read(reader()[0], Packet(cut=cut))
    assert (video.skip_s.tolist(), video.trim_s.tolist()) == ([0.0], [0.0])


@pytest.mark.parametrize(
    ("first", "predicted"),
    [
        (0x80, False), (0x81, False), (0x82, False), (0x83, False), (0x84, True), (0x88, True), (0x8C, True),
        (0x90, False), (0x94, True), (0xA0, False), (0xA8, True), (0xB0, False), (0xB4, False), (0xB8, False),
        (0x00, True), (0x40, True), (0xC0, True), (0xC3, True), (0x70, False),
    ],
)  # fmt: skip
def test_vp9_packets_that_are_no_key_frames(first: int, predicted: bool) -> None:
    """Two bits of a marker, two of the profile, then whether an earlier frame is shown and whether this one is predicted."""
    assert packets._predicted(bytes([first])) == predicted
    for codec, key in (("vp9", not predicted), ("vp8", True)):
        assert read(reader(codec=codec)[0], Packet(bytes([first, 0]), key=True)).keyframe.tolist() == [key]


# ---------------------------------------------------------------- lengths


def durations(kind: str, milliseconds: Sequence[int | None], usual_s: float = 0.25, **more: Any) -> TrackPackets:
    return read(reader(kind, **more)[0], *(Packet(duration=d) for d in milliseconds), usual_s=usual_s)


@pytest.mark.parametrize(
    ("kind", "milliseconds", "usual_s", "longest_s"),
    [
        ("video", [None, 0, -5], 0.25, 1.0),
        ("video", [40, 1, 0, 60, 40], 0.04, 1.0),
        ("video", [1, 1, 0, 0, 0], 0.001, 1.0),
        ("video", [500], 0.5, 2.0),
        ("video", [2_000], 2.0, 5.0),
        ("video", [8_000], 5.0, 5.0),
        ("audio", [None, 0], 0.5, 2.0),
        ("audio", [100], 0.1, 2.0),
        ("audio", [2_000], 2.0, 2.0),
        ("audio", [2_100], 0.5, 2.0),  # longer than four times what the first one holds
        ("audio", [8_000], 0.5, 2.0),
    ],
)
def test_the_usual_and_the_longest_length(kind: str, milliseconds: list[int | None], usual_s: float, longest_s: float) -> None:
    """The first packet of audio holds half a second."""
    found = durations(kind, milliseconds, frames=[PICTURE if kind == "video" else sound(4_000)])
    assert (found.usual_s, found.longest_s) == (pytest.approx(usual_s), longest_s)
    assert found.length_s == pytest.approx([max(d or 0, 0) / 1000 for d in milliseconds])


def test_a_short_first_packet_does_not_limit_the_others_below_a_second() -> None:
    assert durations("audio", [100], frames=[sound(80)]).longest_s == 1.0


def test_pcm_lasts_as_long_as_its_bytes() -> None:
    given, _ = reader("audio", "pcm_s16le", [sound(4_000)])
    assert read(given, *(Packet(bytes(n), duration=9) for n in (1_000, 500, 250))).length_s.tolist() == [0.5, 0.25, 0.125]
    flushed, _ = reader("audio", "pcm_s16le", [sound(4_000)], since=1)
    assert read(flushed, Packet(duration=250)).length_s.tolist() == [0.25], "nothing tells how many bytes the samples had"


def test_time_stamps_of_a_flac_file_count_samples() -> None:
    for form, second in (("flac", 8_000), ("matroska", 1_000)):
        found = read(reader("audio", "flac", [sound(80)], form=form)[0], Packet(pts=second, dts=2 * second))
        assert (found.pts_s.tolist(), found.dts_s.tolist()) == ([1.0], [2.0])
    silent = read(reader("audio", "flac", form="flac")[0], Packet(pts=1_000))
    assert silent.pts_s.tolist() == [1.0]


@pytest.mark.parametrize(
    ("stated", "held", "cut", "length_s"),
    [
        (250, 8_000, b"", 1.0),
        (250, 4_000, b"", 0.5),
        (250, 800, b"", 0.25),
        (250, 16_000, b"", 1.0),  # no more than usual
        (250, 0, b"", 0.25),
        (250, 8_000, struct.pack("<II", 0, 800), 0.25),
        (0, 8_000, b"", 0.0),
        (1, 8_000, b"", 1.0),
        (1_000, 4_000, b"", 1.0),
        (1_250, 4_000, b"", 1.25),
    ],
)
def test_the_last_packet_of_audio_holds_what_its_decoder_gives(stated: int, held: int, cut: bytes, length_s: float) -> None:
    given, decoder = reader("audio", "aac", [sound(8_000)])
    for n in range(3):
        given.add(n, Packet(duration=1_000))
    last = Packet(duration=stated, cut=cut)
    given.add(3, last)
    decoder._frames = [sound(held // 2), sound(held - held // 2)]
    given.finish()
    assert decoder.fed[-1] is last
    assert given.packets(0.25).length_s.tolist() == [1.0, 1.0, 1.0, length_s]


# ---------------------------------------------------------------- the first frame


def fed(given: tuple[TrackReader, Decoder], keys: Sequence[bool]) -> int:
    """How many packets were decoded."""
    read(given[0], *(Packet(key=key) for key in keys))
    return len(given[1].fed)


@pytest.mark.parametrize(
    ("codec", "keys", "decoded"),
    [
        ("h264", [False] * 40, 32 + 1),  # the first ones, in the end
        ("h264", [False] * 5, 5 + 1),
        ("vp9", [False] * 40, 1),
        ("h264", [False] * 5 + [True], 1 + 1),
        ("h264", [True] + [False] * 400, 300 + 1),
        ("h264", [True] + [False] * 400 + [True] * 2 + [False], 300 + 2 + 1),
        ("h264", [], 0),
    ],
)
def test_a_picture_is_looked_for_from_the_first_key_frame_on(codec: str, keys: list[bool], decoded: int) -> None:
    """The last call asks for what the decoder holds back."""
    assert fed(reader(codec=codec), keys) == decoded


def test_a_first_frame_ends_the_search() -> None:
    assert fed(reader(frames=[PICTURE], since=3), [False, True] + [False] * 9) == 4
    given, decoder = reader(frames=[PICTURE], since=6)
    assert fed((given, decoder), [False] * 10) == 10, "of the early packets the seventh gave it; the others are decoded as well"
    assert given.first == Picture(64, 48, 0, False)


def test_audio_needs_no_key_frame() -> None:
    given, decoder = reader("audio", frames=[sound(80)], since=2)
    last = [Packet() for _ in range(5)]
    read(given, *last)
    assert decoder.fed == last[:3] + last[4:]
    assert given.first == Sound(8_000, 2, 80, 10)


@pytest.mark.parametrize(
    ("kind", "frames", "first"),
    [
        ("video", [SimpleNamespace(**{**vars(PICTURE), "width": 0})], None),
        ("video", [SimpleNamespace(**{**vars(PICTURE), "height": 0})], None),
        ("video", [SimpleNamespace(**{**vars(PICTURE), "height": 0}), PICTURE], Picture(64, 48, 0, False)),
        ("audio", [PICTURE], Sound(8_000, 2, 9, 10)),
        ("audio", [sound(5, 999)], None),
        ("audio", [sound(5, 1_000)], Sound(1_000, 2, 5, 10)),
        ("audio", [sound(0), sound(7), sound(8)], Sound(8_000, 2, 7, 10)),
    ],
)
def test_a_frame_without_a_size_or_samples_is_none(kind: str, frames: list[Any], first: Picture | Sound | None) -> None:
    given, _ = reader(kind, frames=frames)
    given.add(0, Packet(key=True))
    assert given.first == first


@pytest.mark.parametrize("error", packets.DECODER_ERRORS)
@pytest.mark.parametrize("kind", ["video", "audio"])
def test_a_decoder_that_fails_ends_nothing(error: type[Exception], kind: str) -> None:
    given, decoder = reader(kind, error=error)
    assert len(read(given, Packet(key=True), Packet())) == 2
    assert given.first is None
    assert len(decoder.fed) == 3


def test_pictures_are_looked_for_by_one_thread() -> None:
    for kind, threads in (("video", 1), ("audio", 0)):
        assert reader(kind)[1].thread_count == threads


@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        ((1, 0, 0, 1), (0, False)),
        ((0, 1, -1, 0), (270, False)),
        ((-1, 0, 0, -1), (180, False)),
        ((0, -1, 1, 0), (90, False)),
        ((-1, 0, 0, 1), (0, True)),
        ((1, 0, 0, -1), (180, True)),
        ((0, 1, 1, 0), (90, True)),
        ((0, -1, -1, 0), (270, True)),
        ((0, 0, 0, 0), (0, False)),
        ((-0.7145, 0.6997, -0.6997, -0.7145), (180, False)),  # 135.6 degrees
        ((-0.7046, 0.7096, -0.7096, -0.7046), (270, False)),  # 134.8 degrees
    ],
)
def test_display_matrices(matrix: tuple[float, ...], turned: tuple[int, bool]) -> None:
    a, b, c, d = (round(value * 65_536) for value in matrix)
    assert orientation(SimpleNamespace(side_data={"DISPLAYMATRIX": struct.pack("=9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)})) == turned


# ---------------------------------------------------------------- numbers


def numbers(parts: Sequence[int], part: int) -> Callable[[int | None, int], int | None]:
    """Of a track whose packets have the time stamps 0, 1, 2 ..., the last two none, and the size 10."""
    pts = np.arange(len(parts))
    pts[-2:] = NO_PTS
    track: Any = SimpleNamespace(pts=pts, size=np.full(len(parts), 10), part=np.array(parts))
    numbering = Numbering(track, part)
    return lambda stamp, size: numbering.of(SimpleNamespace(pts=stamp, size=size))


def test_packets_keep_their_numbers() -> None:
    number = numbers([0] * 6, 0)
    assert [number(pts, 10) for pts in (0, 1, 2, 3, None, None)] == [0, 1, 2, 3, 4, 5]
    assert number(None, 10) == 4, "there is none behind it: the first of this kind"
    assert number(2, 10) == 2
    assert [number(9, 10), number(2, 11), number(2, 10)] == [None, None, 2]
    assert [number(None, 10), number(None, 10)] == [4, 5]


def test_packets_of_a_later_part() -> None:
    assert [numbers([0, 0, 1, 1, 2, 2], 1)(pts, 10) for pts in (0, 2, 3)] == [None, 2, 3]
    assert numbers([0, 0, 1, 1, 2, 2], 1)(None, 10) is None
    assert numbers([0] * 6, 0)(0, 11) is None
    assert numbers([0] * 6, 1)(0, 10) is None
    assert numbers([1] * 6, 0)(0, 10) is None
