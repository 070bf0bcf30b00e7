"""Files that are several files one behind the other (`cat a.flv b.flv`): where each begins, and each as a file of its own.

FFmpeg reads the first and stops, or takes its clock for all. Opened one by one, they are ordinary files.
"""

from __future__ import annotations

import io
import zlib
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
_CAF = b"caff\x00\x01\x00\x00desc"
_AU = b".snd"
_TTA = b"TTA1"
_FLAC = b"fLaC"
_WAVPACK = b"wvpk"
_WAVPACK_FIRST = 1 << 11
"""Flag of the first block of those that hold the channels of one stretch."""
_IVF = b"DKIF\x00\x00\x20\x00"
_FLAC_STARTS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")
_APE = b"APETAGEX"
_MOVIE = (b"moov", b"mdat")
"""Boxes without which an mp4 holds no movie."""


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
    """RIFF (wav) and FORM (AIFF) headers. Sizes are little-endian in RIFF, big-endian in FORM."""
    first = data.at(0, 4)

    def end_of(at: int) -> int:
        size = int.from_bytes(data.at(at + 4, 4), "little" if first == b"RIFF" else "big")
        return at + 8 + size + size % 2

    return _chain(data, first, lambda at: _is_form(data, at) and data.at(at, 4) == first, end_of)


def _is_form(data: FileBytes, at: int) -> bool:
    return data.at(at + 8, 4) in _FORMS.get(data.at(at, 4), ())


def _chain(data: FileBytes, magic: bytes, is_header: Callable[[int], bool], end_of: Callable[[int], int | None]) -> Iterator[int]:
    """Headers of one kind, each where the file before it ends.

    Where nothing of the kind is there, because the first was cut or never learnt its size, the next one is searched for.

    Args:
        magic: How a header begins.
        is_header: Whether one stands at a position, as well as its fields tell.
        end_of: The end of the file whose header stands at a position, by that header; None where it does not say.
    """
    at = 0
    while at >= 0:
        yield at
        end = end_of(at)
        if end == len(data):
            return
        at = end if end is not None and is_header(end) else _search(data, magic, is_header, at + len(magic))


def _search(data: FileBytes, magic: bytes, is_header: Callable[[int], bool], at: int) -> int:
    """The first header from `at` on; -1 where there is none, or where the magic bytes stand too often for nothing."""
    for _ in range(_MOST):
        at = data.find(magic, at)
        if at < 0 or is_header(at):
            return at
        at += 1
    return -1


def _caf(data: FileBytes) -> Iterator[int]:
    """Core Audio Format: chunks behind a header (Apple, Core Audio Format Specification). The size -1 of the last leads behind the file."""

    def end_of(at: int) -> int:
        at += 8
        while len(chunk := data.at(at, 12)) == 12 and chunk[:4] != _CAF[:4]:
            at += 12 + int.from_bytes(chunk[4:], "big")
        return at

    return _chain(data, _CAF, lambda at: data.at(at, len(_CAF)) == _CAF, end_of)


def _au(data: FileBytes) -> Iterator[int]:
    """Sun/NeXT audio: a header with the sizes of itself and of the samples, which are 0xffffffff where they were not known."""

    def fields(at: int) -> tuple[int, ...]:
        header = data.at(at, 24)
        return tuple(int.from_bytes(header[i : i + 4], "big") for i in range(4, 24, 4)) if header[:4] == _AU and len(header) == 24 else ()

    def is_header(at: int) -> bool:
        if not (known := fields(at)):
            return False
        offset, _, encoding, rate, channels = known
        return 24 <= offset < 1 << 20 and 1 <= encoding <= 27 and 1000 <= rate <= 768_000 and 1 <= channels <= 64

    def end_of(at: int) -> int:
        return at + sum(fields(at)[:2])

    return _chain(data, _AU, is_header, end_of)


def _tta(data: FileBytes) -> Iterator[int]:
    """True Audio: a header with a checksum, the sizes of the frames with one, the frames, and perhaps tags (TTA1 format description)."""

    def is_header(at: int) -> bool:
        header = data.at(at, 22)
        return header[:4] == _TTA and zlib.crc32(header[:18]) == int.from_bytes(header[18:], "little")

    def end_of(at: int) -> int | None:
        header = data.at(at, 22)
        rate, samples = int.from_bytes(header[10:14], "little"), int.from_bytes(header[14:18], "little")
        frames = -(-samples // max(1, 256 * rate // 245))
        if 4 * frames > len(data):
            return None
        sizes = data.at(at + 22, 4 * frames)
        end = at + 26 + 4 * frames + sum(int.from_bytes(sizes[i : i + 4], "little") for i in range(0, len(sizes), 4))
        if data.at(end, 8) == _APE:  # its size counts all but the header
            end += 32 + int.from_bytes(data.at(end + 12, 4), "little")
        return end

    return _chain(data, _TTA, is_header, end_of)


def _flac(data: FileBytes) -> Iterator[int]:
    """FLAC: the marker and the stream's facts, whose length is fixed (RFC 9639, 8.2). Nothing says where a file ends."""
    return _chain(data, _FLAC, lambda at: data.at(at, 8) in _FLAC_STARTS, lambda at: None)


def _wavpack(data: FileBytes) -> Iterator[int]:
    """WavPack: the block of sample 0, which begins a file (WavPack 4 & 5 binary file format). Tags may be between the files."""
    at, searches = 0, 0
    while len(block := data.at(at, 32)) == 32 and searches < _MOST:
        size, index, samples, flags = (int.from_bytes(block[i : i + 4], "little") for i in (4, 16, 20, 24))
        if index == 0 and block[10] == 0 and samples > 0 and flags & _WAVPACK_FIRST:
            yield at
        behind = at + 8 + size
        if behind == len(data):
            return
        if data.at(behind, 4) == _WAVPACK:
            at = behind
        elif (at := data.find(_WAVPACK, at + 4)) < 0:
            return
        else:
            searches += 1


def _ivf(data: FileBytes) -> Iterator[int]:
    """IVF headers, each behind whole frames."""

    def end_of(at: int) -> int:
        at += 32
        while len(frame := data.at(at, 12)) == 12 and frame[:4] != _IVF[:4]:
            at += 12 + int.from_bytes(frame[:4], "little")
        return at

    return _chain(data, _IVF, lambda at: data.at(at, len(_IVF)) == _IVF, end_of)


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
    at = start = 0
    missing = set(_MOVIE)
    while len(box := data.at(at, 16)) >= 8:
        size, kind = int.from_bytes(box[:4], "big"), box[4:8]
        if size == 1:
            size = int.from_bytes(box[8:], "big")
        if kind == b"ftyp" and not missing:
            yield start
            start, missing = at, set(_MOVIE)
        missing.discard(kind)
        if size < 8:
            break
        at += size
    if not missing:
        yield start


def _adts(data: FileBytes) -> Iterator[int]:
    """Frames at which the sample rate changes and stays (ISO 14496-3, 1.A.2.2): FFmpeg places all by the first rate."""
    at, rate = _behind_id3(data, 0), -1
    while at >= 0:
        length, here = _adts_frame(data, at)
        if not length:
            skipped = _behind_id3(data, at)
            at = skipped if skipped != at else data.find(b"\xff", at + 1)
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
    (None, lambda data: _is_form(data, 0), _forms),
    (None, lambda data: data.at(0, 16) in (_ASF, _W64), _objects),
    (None, lambda data: data.at(4, 4) == b"ftyp", _mp4),
    (None, lambda data: data.at(0, len(_CAF)) == _CAF, _caf),
    (None, lambda data: data.at(0, 4) == _AU, _au),
    (None, lambda data: data.at(0, 4) == _TTA, _tta),
    (None, lambda data: data.at(0, 8) in _FLAC_STARTS, _flac),
    (None, lambda data: data.at(0, 4) == _WAVPACK, _wavpack),
    (None, lambda data: data.at(0, len(_IVF)) == _IVF, _ivf),
    ("aac", lambda data: bool(_adts_frame(data, _behind_id3(data, 0))[0]), _adts),
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
