"""Chained Ogg files: where each link begins.

An Ogg file may be several files one after another (RFC 3533, section 4): recordings of web radio, joined voice messages. FFmpeg reads
them as one, but takes header packets of later links for content, keeps the first link's clock rate, and stops at a change of the sample
rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omnidrop_cli.media.file_bytes import FileBytes

PAGE = b"OggS"
_HEADER = 27
"""Bytes of a page header before its segment table."""

_FIRST_PAGE = 2
"""Flag of a page that opens a logical stream."""


def links(data: FileBytes) -> Iterator[int]:
    """The first byte of every link. A link begins at an opening page that follows a page of content."""
    at, content = data.find(PAGE), True
    while at >= 0 and len(header := data.at(at, _HEADER)) == _HEADER:
        opening = bool(header[5] & _FIRST_PAGE) and header[18:22] == bytes(4)  # with sequence number 0
        if opening and content:
            yield at
        content = not opening
        sizes = data.at(at + _HEADER, header[26])
        behind = at + _HEADER + header[26] + sum(sizes)
        if behind == len(data):
            return
        # Behind a damaged page the next one is searched for.
        at = behind if data.at(behind, 4) == PAGE else data.find(PAGE, at + 4)
