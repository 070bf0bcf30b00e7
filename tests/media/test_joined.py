"""Where files joined by `cat` begin, found in bytes alone, and one part of a file as a file."""

from __future__ import annotations

import io
import struct
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnidrop_cli.media.joined import FileRange, find_parts


def starts(data: bytes) -> list[int]:
    """The first bytes of the parts, after a check that they fill the file."""
    _, parts = find_parts(io.BytesIO(data))
    assert [end for _, end in parts[:-1]] == [start for start, _ in parts[1:]]
    assert (parts[0][0], parts[-1][1]) == (0, len(data))
    return [start for start, _ in parts]


def adts(rate: int, length: int = 40, inside: bytes = b"") -> bytes:
    """An AAC frame of `length` bytes with the sampling frequency of index `rate` (ISO 14496-3, 1.A.2.2)."""
    header = bytes([0xFF, 0xF1, 1 << 6 | rate << 2, 2 << 6 | length >> 11, length >> 3 & 255, (length & 7) << 5 | 31, 0xFC])
    return header + inside + b"\x21" * (length - 7 - len(inside))


ID3 = b"ID3\x04\x00\x00" + bytes([0, 0, 1, 2]) + adts(9) * 3 + b"t" * 10
"""A tag of 130 bytes: 7 bits a byte. They look like frames."""

LONG_ID3 = b"ID3\x04\x00\x00" + bytes([1, 1, 0, 0]) + bytes((1 << 21) + (1 << 14))


@pytest.mark.parametrize("between", [b"", ID3, b"\x00", b"\x00" * 50, b"\xff\x00" * 9, ID3 * 2, LONG_ID3])
def test_aac_has_a_new_part_where_the_rate_changes_and_stays(between: bytes) -> None:
    first = adts(4) * 3
    assert starts(first + between + adts(7, 300) * 2 + adts(7)) == [0, len(first + between)]
    assert starts(first + between + adts(4) * 3) == [0]
    assert find_parts(io.BytesIO(first + adts(7) * 2))[0] == "aac"
    assert find_parts(io.BytesIO(ID3 + first))[0] is None


@pytest.mark.parametrize("length", [7, 2_047, 2_048, 4_100, 6_200, 8_191])
def test_aac_frames_are_as_long_as_they_say(length: int) -> None:
    inside = adts(9) * 3 if length > 127 else b""
    first = adts(0, length, inside) * 2
    assert starts(first + adts(1, length, inside) * 2) == [0, len(first)]


def test_one_aac_frame_of_another_rate_is_damage() -> None:
    for rate in (0, 4):
        assert starts(adts(rate) * 3 + adts(7) + adts(rate) * 3) == [0]
    assert starts(ID3 + adts(4) * 3 + b"\x00" * 99) == [0]
    assert starts(adts(4) * 3 + adts(7) * 2 + adts(4) * 2) == [0, 120, 200]
    assert starts(adts(4) * 2 + adts(7)[:6]) == [0]
    assert starts(adts(4) * 2 + b"\xff\xf1\x50\x80\x00\x9f\xfc" * 3 + adts(7) * 2) == [0, 101]  # a length below that of a header


def flv(*sizes: int, kind: int = 8) -> bytes:
    tags = b"".join(bytes([kind]) + size.to_bytes(3, "big") + b"\0" * 7 + b"a" * size + b"\0" * 4 for size in sizes)
    return b"FLV\x01\x05\x00\x00\x00\x09" + b"\0" * 4 + tags


@pytest.mark.parametrize("kind", [8, 9, 18, 0x28, 0x32])  # the last two are encrypted
def test_flv_holds_audio_video_and_data(kind: int) -> None:
    assert starts(flv(5, kind=kind) + flv()) == [0, 33]
    assert starts(flv(5, kind=kind + 2) + flv()) == [0]


def test_no_more_than_4096_parts_and_marks_are_looked_at() -> None:
    assert starts(flv() * 5000) == [13 * n for n in range(4096)]
    whole, unknown = form(b"RIFF", 100, b"WAVE"), b"RIFF" + bytes(4) + b"WAVE"
    assert starts(unknown + b"RIFF" * 4095 + whole) == [0, 12 + 4 * 4095]
    assert starts(unknown + b"RIFF" * 4096 + whole) == [0]
    first, block = (b"wvpk" + struct.pack("<IHBBIIII", 24, 0x410, 0, 0, 9, index, 1, 1 << 11) + b"crc!" for index in (0, 5))
    assert starts(first + (b"-" + block) * 4094 + b"-" + first) == [0, 32 + 33 * 4094 + 1]
    assert starts(first + (b"-" + block) * 4095 + b"-" + first) == [0]


def test_flv_begins_behind_whole_tags() -> None:
    one = flv(5, 0, 70_000)
    assert starts(one + flv(3) + flv()) == [0, len(one), len(one) + len(flv(3))]
    assert starts(one[:-1] + flv(3)) == [0]
    assert starts(one + b"FLV\x02") == [0]


def form(kind: bytes, size: int, inner: bytes, held: bytes = b"") -> bytes:
    return kind + struct.pack("<I" if kind == b"RIFF" else ">I", size) + inner + (held + b"d" * (size - 4 - len(held))) + b"\0" * (size % 2)


@pytest.mark.parametrize(
    ("kind", "inner", "other"), [(b"RIFF", b"WAVE", b"AVI "), (b"FORM", b"AIFF", b"ILBM"), (b"FORM", b"AIFC", b"ILBM")]
)
def test_forms_begin_behind_whole_ones_and_are_even(kind: bytes, inner: bytes, other: bytes) -> None:
    assert starts(form(kind, 100, inner) + form(kind, 101, inner) + form(kind, 8, inner)) == [0, 108, 218]
    assert starts(form(kind, 100, inner) + form(kind, 100, other)) == [0]
    assert starts(form(kind, 100, inner)) == [0]
    for size in (100, 101, 70_001):
        one = form(kind, size, inner, held=form(kind, 20, inner))
        assert starts(one + one) == [0, len(one)], "samples may look like a file"


def test_a_form_of_unknown_size_ends_where_the_next_begins() -> None:
    whole = form(b"RIFF", 100, b"WAVE")
    for size in (0, 0xFFFFFFFF, 5000):
        unknown = b"RIFF" + struct.pack("<I", size) + whole[8:]
        assert starts(unknown + whole + unknown) == [0, 108, 216]
    assert starts(b"RIFF" + bytes(4) + b"WAVE" + b"RIFF" * 9 + whole) == [0, 48]
    assert starts(form(b"RIFF", 100, b"AVI ") + whole) == [0]


@pytest.mark.parametrize("start", [b"RIFF\xff\xff\xff\xffWAVE", b"wvpk", b".snd\0\0\0\x18\xff\xff\xff\xff\0\0\0\3\0\0\x20\0\0\0\0\1"])
def test_marks_without_a_header_do_not_take_for_ever(start: bytes) -> None:
    began = time.monotonic()
    assert starts(start + start[:4] * (1 << 20)) == [0]
    assert time.monotonic() - began < 2  # six seconds where each of a million marks is looked at


def au(size: int, samples: bytes, encoding: int = 3, rate: int = 8000, channels: int = 1, offset: int = 24) -> bytes:
    return b".snd" + struct.pack(">IIIII", offset, size, encoding, rate, channels) + b"t" * min(offset - 24, 99) + samples


def test_au_is_known_by_all_of_its_header() -> None:
    one = au(50, b"s" * 50, offset=32)
    assert starts(one + au(0xFFFFFFFF, b"s" * 20) + one) == [0, 82, 126]
    assert starts(au(len(one), one) + one) == [0, 24 + len(one)], "samples may look like a header"
    limits = [("offset", 24, (1 << 20) - 1), ("encoding", 1, 27), ("rate", 1000, 768_000), ("channels", 1, 64)]
    beyond = [au(9, b"", **{name: value})[:24] for name, least, most in limits for value in (least - 1, most + 1)]
    within = [au(9, b"", **{name: value})[:24] for name, least, most in limits for value in (least, most)]
    for right in within:
        assert starts(au(0xFFFFFFFF, b"s" * 20) + right + b"s" * 30) == [0, 44]
    assert starts(au(20, b"s" * 20) + b".xyz" + one[4:]) == [0]
    for wrong in (*beyond, au(1, b"")[:4] + bytes(20), b".snd", au(1, b"")[:23]):
        assert starts(au(0xFFFFFFFF, b"s" * 20) + wrong + b"s" * 30 + one) == [0, 44 + len(wrong) + 30]
        assert starts(au(len(wrong), wrong) + one) == [0, 24 + len(wrong)]


def test_caf_chunks() -> None:
    def caf(size: int, samples: bytes = b"s" * 40) -> bytes:
        desc = b"caff\x00\x01\x00\x00desc" + struct.pack(">q", 32) + b"d" * 32
        return desc + b"data" + struct.pack(">q", size) + samples

    assert len(caf(40)) == 104
    assert starts(caf(40) + caf(-1) + caf(40)) == [0, 104, 208]
    assert starts(caf(4000) + caf(40)) == [0, 104], "the first was cut"
    assert starts(caf(40)) == [0]
    assert starts(caf(-1) + b"caff" + caf(40)) == [0, 108]
    one = caf(104, caf(40)) + b"free" + struct.pack(">q", 0)
    assert starts(one + one) == [0, len(one)], "samples may look like a file"


def test_wavpack_blocks() -> None:
    def block(index: int, samples: int = 10, flags: int = 1 << 11, upper: int = 0, data: bytes = b"b" * 24) -> bytes:
        return b"wvpk" + struct.pack("<IHBBIIII", 20 + len(data), 0x410, upper, 0, 99, index, samples, flags) + data

    one = block(0, samples=1) + block(0, flags=1 << 12) + block(10)  # two blocks hold the channels of the first stretch
    assert len(block(0)) == 52
    assert starts(one + b"APETAGEX" * 5 + one + block(0, samples=0)) == [0, 196]
    assert starts(one + block(0, upper=1)) == [0], "the index has 40 bits"
    assert starts(one[:-30] + one) == [0, 126], "the first was cut"
    holding = block(0, data=b"b" * 9 + block(0) + b"b" * 9)  # samples that look like a block
    assert starts(holding + holding) == [0, len(holding)]


@pytest.mark.parametrize("tag", [b"", b"APETAGEX" + struct.pack("<III", 2000, 90, 7) + b"\0" * 12 + b"t" * 90])
def test_tta_frames_and_tags(tag: bytes) -> None:
    def tta(samples: int, sizes: list[int], data: bytes, rate: int = 44_100) -> bytes:
        header = b"TTA1" + struct.pack("<HHHII", 1, 2, 16, rate, samples)
        return header + struct.pack("<I", zlib.crc32(header)) + struct.pack(f"<{len(sizes)}I", *sizes) + b"crc!" + data

    short = tta(10, [7], b"f" * 7)
    one = tta(46_080 + 1, [40, len(short)], b"f" * 40 + short) + tag  # a frame holds 46,080 samples; one looks like a file
    assert starts(one + one + short) == [0, len(one), 2 * len(one)]
    exact = tta(46_080, [40 + len(short)], b"f" * 40 + short) + tag
    slow = tta(8_359 * 9, [1] * 8 + [len(short)], b"f" * 8 + short, rate=8_000) + tag
    assert starts(exact + slow + short) == [0, len(exact), len(exact) + len(slow)]
    plain = tta(46_080, [40], b"f" * 40)
    assert starts(plain + short[:18] + b"sums" + short[22:] + one) == [0, len(plain) + len(short)], "a wrong checksum"
    assert starts(tta(1 << 31, [1], b"f", rate=0) + short) == [0, 31]
    assert starts(one[:30] + one) == [0, 30], "the first was cut"


def test_ivf_frames() -> None:
    header = b"DKIF\x00\x00\x20\x00" + b"VP80" + b"h" * 20

    def frame(data: bytes) -> bytes:
        return struct.pack("<IQ", len(data), 7) + data

    one = header + frame(b"f" * 50) + frame(b"a header within a frame: " + header) + frame(b"")
    assert starts(one + one) == [0, len(one)]
    assert starts(one[:60] + one) == [0, 60], "the first was cut"
    assert starts(one) == [0]


@pytest.mark.parametrize("last", [0, 0x80])
def test_flac_begins_with_its_facts(last: int) -> None:
    one = b"fLaC" + bytes([last, 0, 0, 34]) + b"f" * 50
    assert starts(one + b"fLaC" + b"\0" * 9 + one) == [0, 58 + 13]
    assert starts(b"fLaC\x01" + one[5:] + one) == [0]


GUIDS = {"asf": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), "w64": b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")}


@pytest.mark.parametrize(("kind", "fill"), [("asf", 0), ("w64", 5)])
def test_asf_and_wave64_count_their_own_headers(kind: str, fill: int) -> None:
    def thing(guid: bytes, size: int) -> bytes:
        return guid + struct.pack("<Q", size) + b"d" * (size - 24) + b"\0" * fill

    one = thing(GUIDS[kind], 75) + (thing(b"x" * 16, 35) if kind == "asf" else b"")
    assert starts(one + thing(GUIDS[kind], 75)) == [0, len(one)]
    assert starts(one) == [0]
    assert starts(one + b"y" * 16 + struct.pack("<Q", 23) + one) == [0], "an object shorter than its header ends the search"
    if kind == "asf":
        assert starts(one + thing(b"y" * 16, 24) + one) == [0, len(one) + 24]


def box(kind: bytes, size: int, long: bool = False) -> bytes:
    head = struct.pack(">I4sQ", 1, kind, size) if long else struct.pack(">I4s", size, kind)
    return head + b"d" * (size - len(head))


@pytest.mark.parametrize("long", [False, True])
def test_mp4_begins_behind_a_whole_movie(long: bool) -> None:
    movie = box(b"ftyp", 24) + box(b"moov", 40) + box(b"mdat", 60, long)
    assert starts(movie * 3) == [0, 124, 248]
    assert starts(movie + box(b"ftyp", 24) + box(b"moov", 40)) == [0], "no samples"
    assert starts(movie + box(b"free", 8) + movie) == [0, 132]
    assert starts(movie + box(b"ftyp", 24) + box(b"moov", 40) + box(b"mdat", 8)) == [0, 124]
    assert starts(movie + box(b"ftyp", 24) + box(b"mdat", 60)) == [0]
    assert starts(box(b"ftyp", 24) + box(b"moov", 40) + movie) == [0], "the first has no samples of its own"
    assert starts(movie + b"\0\0\0\0junk" + movie) == [0]


def test_other_files_are_one_part() -> None:
    for data in (b"", b"\x1aE\xdf\xa3" + b"\0" * 99, b"ID3", b"text" * 9):
        assert find_parts(io.BytesIO(data)) == (None, ((0, len(data)),))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.integers(0, 30),
    length=st.integers(0, 30),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("read"), st.integers(-1, 40)),
            st.tuples(st.just("set"), st.integers(0, 40)),
            st.tuples(st.just("current"), st.integers(0, 5)),
            st.tuples(st.just("end"), st.integers(-9, 9)),
        ),
        max_size=8,
    ),
)
def test_a_part_is_read_like_a_file_of_its_own(start: int, length: int, steps: list[tuple[str, int]], tmp_path: Path) -> None:
    data = bytes(range(100))
    path = tmp_path / "f"
    path.write_bytes(data)
    cut = io.BytesIO(data[start : start + length])
    whence = {"set": io.SEEK_SET, "current": io.SEEK_CUR, "end": io.SEEK_END}
    with FileRange(str(path), start, start + length) as part:
        assert part.readable()
        assert part.seekable()
        for name, value in steps:
            if name == "read":
                assert part.read(value) == cut.read(value)
            else:
                assert part.seek(value, whence[name]) == cut.seek(value, whence[name])
            assert part.tell() == cut.tell()
    assert part.closed
    assert part._file.closed
