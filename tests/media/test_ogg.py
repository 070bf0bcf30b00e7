"""Where the links of a chained Ogg file begin (RFC 3533, section 6), by their pages alone."""

from __future__ import annotations

import io
import struct

import pytest

from omnidrop_cli.media.file_bytes import FileBytes
from omnidrop_cli.media.ogg import links

CONTINUED, OPENS, ENDS = 1, 2, 4


def page(flags: int, number: int, body: bytes = b"b" * 30) -> bytes:
    sizes = [*[255] * (len(body) // 255), len(body) % 255]
    return b"OggS" + struct.pack("<BBqIIIB", 0, flags, 9, 0x77777777, number, 5, len(sizes)) + bytes(sizes) + body


def starts(data: bytes) -> list[int]:
    return list(links(FileBytes(io.BytesIO(data))))


LINK = page(OPENS, 0) + page(0, 1, b"c" * 700) + page(CONTINUED, 2) + page(ENDS, 3)


def test_every_opening_page_behind_content_begins_a_link() -> None:
    assert starts(LINK * 3) == [0, len(LINK), 2 * len(LINK)]
    assert starts(b"junk" + LINK + b"junk" + LINK) == [4, 8 + len(LINK)]
    assert starts(b"") == starts(b"junk") == []
    assert starts(LINK + page(OPENS, 0)[:26]) == [0]


def test_streams_that_are_opened_together_are_one_link() -> None:
    both = page(OPENS, 0) * 2 + page(0, 1) * 2
    assert starts(both + both) == [0, len(both)]


@pytest.mark.parametrize("flags", [0, CONTINUED, ENDS, CONTINUED | ENDS])
def test_a_page_that_opens_nothing_is_content(flags: int) -> None:
    assert starts(LINK + page(flags, 0) + page(OPENS, 1) + page(0, 2)) == [0]


def test_what_looks_like_a_page_within_another_is_none() -> None:
    holding = page(OPENS, 0, LINK * 2) + page(0, 1, page(0, 0) + LINK)
    assert starts(holding + holding) == [0, len(holding)]


def test_behind_a_damaged_page_the_next_is_searched_for() -> None:
    assert starts(LINK + b"OggS" + LINK) == [0, len(LINK) + 4]
    assert starts(LINK[:-7] + LINK) == [0, len(LINK) - 7]
