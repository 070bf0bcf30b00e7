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


def adts(rate: int, length: int = 40) -> bytes:
    """An AAC frame of `length` bytes with the sampling frequency of index `rate` (ISO 14496-3, 1.A.2.2)."""
    header = bytes([0xFF, 0xF1, 1 << 6 | rate << 2, 2 << 6 | length >> 11, length >> 3 & 255, (length & 7) << 5 | 31, 0xFC])
    return header + b"\x21" * (length - 7)


ID3 = b"ID3\x04\x00\x00" + bytes([0, 0, 1, 2]) + b"t" * 130
"""A tag of 130 bytes: 7 bits a byte."""


@pytest.mark.parametrize("between", [b"", ID3, b"\x00" * 50, b"\xff\x00" * 9, ID3 * 2])
def test_aac_has_a_new_part_where_the_rate_changes_and_stays(between: bytes) -> None:
    first = adts(4) * 3
    assert starts(first + between + adts(7, 300) * 2 + adts(7)) == [0, len(first + between)]
    assert starts(first + between + adts(4) * 3) == [0]
    assert find_parts(io.BytesIO(first + adts(7) * 2))[0] == "aac"


def test_one_aac_frame_of_another_rate_is_damage() -> None:
    assert starts(adts(4) * 3 + adts(7) + adts(4) * 3) == [0]
    assert starts(ID3 + adts(4) * 3 + b"\x00" * 99) == [0]
    assert starts(adts(4) * 3 + adts(7) * 2 + adts(4) * 2) == [0, 120, 200]
    assert starts(adts(4) * 2 + adts(7)[:6]) == [0]
    assert starts(adts(4) * 2 + b"\xff\xf1\x50\x80\x00\x9f\xfc" * 3 + adts(7) * 2) == [0, 101]  # a length below that of a header


def flv(*sizes: int) -> bytes:
    tags = b"".join(bytes([8]) + size.to_bytes(3, "big") + b"\0" * 7 + b"a" * size + b"\0" * 4 for size in sizes)
    return b"FLV\x01\x05\x00\x00\x00\x09" + b"\0" * 4 + tags


def test_flv_begins_behind_whole_tags() -> None:
    one = flv(5, 0, 70_000)
    assert starts(one + flv(3) + flv()) == [0, len(one), len(one) + len(flv(3))]
    assert starts(one[:-1] + flv(3)) == [0]
    assert starts(one + b"FLV\x02") == [0]


def form(kind: bytes, size: int, inner: bytes) -> bytes:
    return kind + struct.pack("<I" if kind == b"RIFF" else ">I", size) + inner + b"d" * (size - 4) + b"\0" * (size % 2)


@pytest.mark.parametrize(
    ("kind", "inner", "other"), [(b"RIFF", b"WAVE", b"AVI "), (b"FORM", b"AIFF", b"ILBM"), (b"FORM", b"AIFC", b"ILBM")]
)
def test_forms_begin_behind_whole_ones_and_are_even(kind: bytes, inner: bytes, other: bytes) -> None:
    assert starts(form(kind, 100, inner) + form(kind, 101, inner) + form(kind, 8, inner)) == [0, 108, 218]
    assert starts(form(kind, 100, inner) + form(kind, 100, other)) == [0]
    assert starts(form(kind, 100, inner)) == [0]


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
    return b".snd" + struct.pack(">IIIII", offset, size, encoding, rate, channels) + b"t" * (offset - 24) + samples


def test_au_is_known_by_all_of_its_header() -> None:
    one = au(50, b"s" * 50, offset=32)
    assert starts(one + au(0xFFFFFFFF, b"s" * 20) + one) == [0, 82, 126]
    assert starts(au(len(one), one) + one) == [0, 24 + len(one)], "samples may look like a header"
    for wrong in (au(1, b"", encoding=0), au(1, b"", rate=900), au(1, b"", channels=65), au(1, b"")[:4] + bytes(20), b".snd"):
        assert starts(au(0xFFFFFFFF, b"s" * 20) + wrong + b"s" * 30 + one) == [0, 44 + len(wrong) + 30]
        assert starts(au(len(wrong), wrong) + one) == [0, 24 + len(wrong)]


def test_caf_chunks() -> None:
    def caf(size: int) -> bytes:
        desc = b"caff\x00\x01\x00\x00desc" + struct.pack(">q", 32) + b"d" * 32
        return desc + b"data" + struct.pack(">q", size) + b"s" * 40

    assert len(caf(40)) == 104
    assert starts(caf(40) + caf(-1) + caf(40)) == [0, 104, 208]
    assert starts(caf(4000) + caf(40)) == [0, 104], "the first was cut"
    assert starts(caf(40)) == [0]
    assert starts(caf(-1) + b"caff" + caf(40)) == [0, 108]


def test_wavpack_blocks() -> None:
    def block(index: int, samples: int = 10, flags: int = 1 << 11, upper: int = 0, data: bytes = b"b" * 24) -> bytes:
        return b"wvpk" + struct.pack("<IHBBIIII", 20 + len(data), 0x410, upper, 0, 99, index, samples, flags) + data

    one = block(0) + block(0, flags=1 << 12) + block(10)  # two blocks hold the channels of the first stretch
    assert len(block(0)) == 52
    assert starts(one + b"APETAGEX" * 5 + one + block(0, samples=0)) == [0, 196]
    assert starts(one + block(0, upper=1)) == [0], "the index has 40 bits"
    assert starts(one[:-30] + one) == [0, 126], "the first was cut"
    holding = block(0, data=b"b" * 9 + block(0) + b"b" * 9)  # samples that look like a block
    assert starts(holding + holding) == [0, len(holding)]


@pytest.mark.parametrize("tag", [b"", b"APETAGEX" + struct.pack("<II", 2000, 90) + b"\0" * 16 + b"t" * 90])
def test_tta_frames_and_tags(tag: bytes) -> None:
    def tta(samples: int, sizes: list[int], data: bytes) -> bytes:
        header = b"TTA1" + struct.pack("<HHHII", 1, 2, 16, 44_100, samples)
        return header + struct.pack("<I", zlib.crc32(header)) + struct.pack(f"<{len(sizes)}I", *sizes) + b"crc!" + data

    short = tta(10, [7], b"f" * 7)
    one = tta(46_080 + 1, [40, len(short)], b"f" * 40 + short) + tag  # a frame holds 46,080 samples; one looks like a file
    assert starts(one + one + short) == [0, len(one), 2 * len(one)]
    assert starts(one[:30] + one) == [0, 30], "the first was cut"


def test_ivf_frames() -> None:
    header = b"DKIF\x00\x00\x20\x00" + b"VP80" + b"h" * 20

    def frame(data: bytes) -> bytes:
        return struct.pack("<IQ", len(data), 0) + data

    one = header + frame(b"f" * 50) + frame(b"a header within a frame: " + header) + frame(b"")
    assert starts(one + one) == [0, len(one)]
    assert starts(one[:60] + one) == [0, 60], "the first was cut"
    assert starts(one) == [0]


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
