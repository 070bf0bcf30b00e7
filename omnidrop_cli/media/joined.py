"""Files that are several files one behind the other (`cat a.flv b.flv`): where each begins, and each as a file of its own.

FFmpeg reads the first and stops, or takes its clock for all. Opened one by one, they are ordinary files.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import BinaryIO

from omnidrop_cli.media import ogg
from omnidrop_cli.media.file_bytes import FileBytes

Parts = tuple[tuple[int, int], ...]
"""(first byte, end) of every part, from the first byte of the file to its last."""

_MOST = 4096
_FLV = b"FLV\x01"
_FLV_TAGS = (8, 9, 18)
_FORMS = {b"RIFF": (b"WAVE",), b"FORM": (b"AIFF", b"AIFC")}
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_W64 = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")
_ID3 = b"ID3"


def find_parts(file: BinaryIO) -> tuple[str | None, Parts]:
    """The name of FFmpeg's reader for the parts, None where it may choose, and the parts: one for a file that is not joined.

    Raises `OSError` for a file that cannot be read.
    """
    data = FileBytes(file)
    for name, recognised, starts_of in _KINDS:
        if recognised(data):
            starts = [start for start, _ in zip(starts_of(data), range(_MOST), strict=False)]
            if len(starts) > 1:
                return name, tuple(zip([0, *starts[1:]], [*starts[1:], len(data)], strict=True))
    return None, ((0, len(data)),)


def _flv(data: FileBytes) -> Iterator[int]:
    """FLV headers, each behind a whole tag (Video File Format Specification 10.1, annex E)."""
    at = 0
    while data.at(at, 4) == _FLV:
        yield at
        at += int.from_bytes(data.at(at + 5, 4), "big") + 4
        while len(tag := data.at(at, 11)) == 11 and tag[0] & 0x1F in _FLV_TAGS:
            at += 15 + int.from_bytes(tag[1:4], "big")


def _forms(data: FileBytes) -> Iterator[int]:
    """RIFF (wav) and FORM (AIFF) headers, each behind a whole form of its kind. Sizes are little-endian in RIFF, big-endian in FORM."""
    at, first = 0, data.at(0, 4)
    while (form := data.at(at, 12))[:4] == first and form[8:] in _FORMS[first]:
        yield at
        size = int.from_bytes(form[4:8], "little" if first == b"RIFF" else "big")
        at += 8 + size + size % 2


def _objects(data: FileBytes) -> Iterator[int]:
    """ASF headers behind whole objects, Wave64 headers behind whole files: both are GUIDs with a size that counts the GUID and itself."""
    at, first = 0, data.at(0, 16)
    while len(found := data.at(at, 24)) == 24:
        if found[:16] == first:
            yield at
        size = int.from_bytes(found[16:], "little")
        if size < 24:
            break
        at += size if first == _ASF else -(-size // 8) * 8  # Wave64 fills up to 8 bytes


def _mp4(data: FileBytes) -> Iterator[int]:
    """`ftyp` boxes, each behind a whole movie with its samples (ISO 14496-12, 4.2)."""
    at, start, kinds, whole = 0, 0, set[bytes](), {b"moov", b"mdat"}
    while len(box := data.at(at, 16)) >= 8:
        size, kind = int.from_bytes(box[:4], "big"), box[4:8]
        if size == 1:
            size = int.from_bytes(box[8:], "big")
        if kind == b"ftyp" and whole <= kinds:
            yield start
            start, kinds = at, set()
        kinds.add(kind)
        if size < 8:
            break
        at += size
    if start == 0 or whole <= kinds:
        yield start


def _adts(data: FileBytes) -> Iterator[int]:
    """Frames at which the sample rate changes and stays (ISO 14496-3, 1.A.2.2): FFmpeg places all by the first rate."""
    at, rate = _behind_id3(data, 0), -1
    while at + 7 <= len(data):
        length, here = _adts_frame(data, at)
        if not length:
            skipped = _behind_id3(data, at)
            at = skipped if skipped != at else data.find(b"\xff", at + 1)
            if at < 0:
                break
            continue
        if here != rate and (rate < 0 or _adts_frame(data, at + length)[1] == here):
            yield at
            rate = here
        at += length


def _adts_frame(data: FileBytes, at: int) -> tuple[int, int]:
    """(length in bytes, index of the sample rate) of the frame at `at`; (0, -1) where there is none."""
    header = data.at(at, 7)
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:
        return 0, -1
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return (length, header[2] >> 2 & 15) if length >= 7 else (0, -1)


def _behind_id3(data: FileBytes, at: int) -> int:
    """The first byte behind an ID3v2 tag at `at`, or `at` where there is none."""
    tag = data.at(at, 10)
    if tag[:3] != _ID3 or len(tag) < 10:
        return at
    a, b, c, d = tag[6:]
    return at + 10 + (a << 21 | b << 14 | c << 7 | d)


_KINDS: tuple[tuple[str | None, Callable[[FileBytes], bool], Callable[[FileBytes], Iterator[int]]], ...] = (
    (None, lambda data: data.at(0, 4) == ogg.PAGE, ogg.links),
    (None, lambda data: data.at(0, 4) == _FLV, _flv),
    (None, lambda data: data.at(0, 4) in _FORMS, _forms),
    (None, lambda data: data.at(0, 16) in (_ASF, _W64), _objects),
    (None, lambda data: data.at(4, 4) == b"ftyp", _mp4),
    ("aac", lambda data: _adts_frame(data, _behind_id3(data, 0))[0] > 0, _adts),
)
"""FFmpeg's reader, where a short part does not tell it; whether a file begins as one of the kind; and where its parts begin."""


class FileRange(io.RawIOBase):
    """The bytes [start, end) of a file, as a file."""

    def __init__(self, path: str, start: int, end: int) -> None:
        super().__init__()
        self._file = open(path, "rb")  # noqa: SIM115  # closed by `close`
        self._start, self._end = start, end
        self._file.seek(start)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._end - self._file.tell())
        return self._file.read(left if size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: self._start, io.SEEK_CUR: self._file.tell(), io.SEEK_END: self._end}[whence]
        return self._file.seek(max(self._start, base + offset)) - self._start

    def tell(self) -> int:
        return self._file.tell() - self._start

    def close(self) -> None:
        self._file.close()
        super().close()
