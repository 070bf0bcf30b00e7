"""Bytes by position equal slices of the whole; a file that becomes shorter gives fewer."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.media import file_bytes
from omnidrop_cli.media.file_bytes import FileBytes
from omnidrop_cli.media.joined import find_parts

CONTENT = st.binary(max_size=200).map(lambda text: bytes(byte % 3 for byte in text))  # patterns that repeat


@given(CONTENT, st.lists(st.tuples(st.integers(0, 220), st.integers(0, 40)), max_size=20), st.integers(1, 64))
def test_every_read_equals_a_slice(content: bytes, reads: list[tuple[int, int]], window: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_bytes, "_WINDOW", window)
        data = FileBytes(io.BytesIO(content))
        assert len(data) == len(content)
        assert [data.at(start, count) for start, count in reads] == [content[start : start + count] for start, count in reads]


@given(CONTENT, CONTENT.filter(lambda text: 0 < len(text) < 5), st.integers(0, 220), st.integers(5, 64))
def test_find_equals_that_of_bytes(content: bytes, pattern: bytes, start: int, window: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_bytes, "_WINDOW", window)
        assert FileBytes(io.BytesIO(content)).find(pattern, start) == content.find(pattern, start)


def test_a_position_no_file_can_have_is_behind_the_end() -> None:
    assert FileBytes(io.BytesIO(b"abc")).at(1 << 70, 4) == b""


def test_a_file_that_becomes_shorter_ends_where_it_ends_now(tmp_path: Path) -> None:
    path = tmp_path / "shrinks.ogg"
    path.write_bytes(bytes(100_000))
    with path.open("rb") as file:
        data = FileBytes(file)
        path.write_bytes(b"")
        assert data.at(90_000, 10) == b""
        assert data.find(b"\x01", 0) == -1


def test_a_damaged_box_size_ends_the_search_for_parts() -> None:
    box = (1).to_bytes(4, "big") + b"ftyp" + (2**64 - 8).to_bytes(8, "big")
    assert find_parts(io.BytesIO(box)) == (None, ((0, 16),))


def test_find_over_every_border_of_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_bytes, "_WINDOW", 16)
    for length in (1, 2, 3, 5):
        for at in range(60):
            content = bytes(at) + b"abcde"[:length]
            assert FileBytes(io.BytesIO(content)).find(b"abcde"[:length]) == at
            assert FileBytes(io.BytesIO(content[:-1])).find(b"abcde"[:length]) == -1


class Counting(io.BytesIO):
    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        return super().read(size)


@pytest.mark.parametrize(("places", "reads"), [([0, 10, 16_380], 1), ([0, 10, 16_381], 2), ([100, 100, 16_480], 1), ([100, 99], 2)])
def test_headers_within_16_kilobytes_come_from_one_read(places: list[int], reads: int) -> None:
    file = Counting(bytes(100_000))
    data = FileBytes(file)
    assert [data.at(place, 4) for place in places] == [bytes(4)] * len(places)
    assert file.reads == reads


def test_more_than_a_window_is_read_at_once() -> None:
    content = bytes(range(256)) * 100
    assert FileBytes(io.BytesIO(content)).at(5, 20_000) == content[5:20_005]
