"""Pictures that are stored as a grid of smaller ones, as phones write HEIC photos (ISO 23008-12, 6.6.2.3).

FFmpeg gives every tile as a track of its own, and PyAV does not say where it belongs. Input: the file. Output: the whole picture as a PPM
file in memory, which FFmpeg reads like any other picture.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from omnidrop_cli.media.file_bytes import FileBytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGEST_META = 1 << 24
_LARGEST_PICTURE = 1 << 27
"""Pixels: three times those of the largest phone camera."""

_GRID_BYTES = 12
"""The longest record of a grid: flags, rows and columns, and a size of two 32-bit numbers."""

_MOST_BOXES = 64
"""Boxes in front of the one that describes the items."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A picture of `width` x `height` pixels in `rows` x `columns` tiles, the items `tiles` of the file row by row.

    `turns`: what is then done to it, in this order: (b"irot", quarters counter-clockwise), (b"imir", 0: upside down, 1: left to right).
    """

    rows: int
    columns: int
    width: int
    height: int
    tiles: tuple[int, ...]
    turns: tuple[tuple[bytes, int], ...]


def find_grid(file: BinaryIO) -> Grid | None:
    """The grid that is the main picture of a file; None where there is none.

    Raises:
        OSError: The file cannot be read.
        ValueError: A tile has no size: FFmpeg would never come back from opening the file.
    """
    data = FileBytes(file)
    content = _meta(data)
    try:
        meta = dict(_boxes(content))
        references = list(_references(meta[b"iref"]))
        for _, tiles in references:
            if not all(_has_size(meta[b"iprp"], tile) for tile in tiles):
                raise ValueError("a tile of the picture has no size")
        return _grid(meta, references, data)
    except (LookupError, struct.error):
        return None


def _meta(data: FileBytes) -> bytes:
    """What describes the items of a file (ISO 14496-12, 8.11); nothing where it has none."""
    at = 0
    for _ in range(_MOST_BOXES if data.at(4, 4) == b"ftyp" else 0):
        head = data.at(at, 16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if kind == b"meta":
            return data.at(at, min(size, _LARGEST_META))[12:]
        if size == 1:
            size = int.from_bytes(head[8:], "big")
        if size < 8:
            break
        at += size
    return b""


def assembled(path: str, grid: Grid) -> BinaryIO:
    """The whole picture, upright, as a PPM file in memory.

    Raises:
        ValueError: A tile is missing, or the picture is too large.
        OSError, av.FFmpegError: The file cannot be read.
    """
    import av

    with av.open(path, metadata_errors="ignore") as container:
        streams: dict[int, Any] = {stream.id: stream for stream in container.streams.video}
        frames: dict[int, Any] = {}
        for packet in container.demux(*streams.values()):
            for frame in packet.decode():
                frames.setdefault(packet.stream.id, frame)
    if not set(grid.tiles) <= frames.keys():
        raise ValueError("a tile of the picture is damaged")
    first = frames[grid.tiles[0]]
    high, wide = first.height, first.width
    if grid.height > grid.rows * high or grid.width > grid.columns * wide or grid.rows * high * grid.columns * wide > _LARGEST_PICTURE:
        raise ValueError(f"a picture of {grid.width} x {grid.height} pixels in {len(grid.tiles)} tiles of {wide} x {high}")
    canvas = np.zeros((grid.rows * high, grid.columns * wide, 3), np.uint8)
    for number, item in enumerate(grid.tiles):
        top, left = number // grid.columns * high, number % grid.columns * wide
        canvas[top : top + high, left : left + wide] = frames[item].to_ndarray(format="rgb24", width=wide, height=high)
    picture: NDArray[np.uint8] = canvas[: grid.height, : grid.width]
    for kind, value in grid.turns:
        picture = np.rot90(picture, value) if kind == b"irot" else np.flip(picture, value)
    return io.BytesIO(b"P6\n%d %d\n255\n" % (picture.shape[1], picture.shape[0]) + picture.tobytes())


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of the boxes in `data` (ISO 14496-12, 4.2)."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size < 8:
            return
        yield kind, data[at + 8 : at + size]
        at += size


def _references(iref: bytes) -> Iterator[tuple[int, tuple[int, ...]]]:
    """(picture, the items that it is made of) (ISO 14496-12, 8.11.12)."""
    wide = 4 if iref[0] else 2
    for kind, content in _boxes(iref[4:]):
        if kind == b"dimg":
            items = [_number(content, at, wide) for at in range(wide + 2, len(content) - wide + 1, wide)]
            yield _number(content, 0, wide), tuple(items[: _number(content, wide, 2)])


def _has_size(iprp: bytes, item: int) -> bool:
    return any(kind == b"ispe" and any(content[4:8]) and any(content[8:12]) for kind, content in _properties(iprp, item))


def _grid(meta: dict[bytes, bytes], references: Sequence[tuple[int, tuple[int, ...]]], file: FileBytes) -> Grid | None:
    primary = _number(meta[b"pitm"], 4, 4 if meta[b"pitm"][0] else 2)
    tiles = dict(references).get(primary, ())
    if not tiles or not _is_grid(meta[b"iinf"], primary):
        return None
    data = _item(meta, primary, file)
    rows, columns = data[2] + 1, data[3] + 1
    width, height = struct.unpack_from(">II" if data[1] & 1 else ">HH", data, 4)
    if rows * columns != len(tiles) or not width or not height:
        return None
    bits = {b"irot": 3, b"imir": 1}
    turns = tuple((kind, content[0] & bits[kind]) for kind, content in _properties(meta[b"iprp"], primary) if kind in bits)
    return Grid(rows, columns, width, height, tiles, turns)


def _number(data: bytes, at: int, size: int) -> int:
    if at + size > len(data):
        raise IndexError(at)
    return int.from_bytes(data[at : at + size], "big")


def _is_grid(iinf: bytes, item: int) -> bool:
    for kind, content in _boxes(iinf[8 if iinf[0] else 6 :]):
        wide = 4 if content[0] == 3 else 2
        if kind == b"infe" and _number(content, 4, wide) == item:
            return content[6 + wide : 10 + wide] == b"grid"
    return False


def _item(meta: dict[bytes, bytes], item: int, file: FileBytes) -> bytes:
    """The first extent of an item's data (ISO 14496-12, 8.11.3). Raises `LookupError` where there is none."""
    iloc = meta[b"iloc"]
    version, sizes = iloc[0], _number(iloc, 4, 2)
    offset_size, length_size, base_size, index_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15, sizes & 15 if version else 0
    wide, at = (4, 10) if version == 2 else (2, 8)
    for _ in range(_number(iloc, 6, wide)):
        number, at = _number(iloc, at, wide), at + wide
        inside, at = (_number(iloc, at, 2) & 15, at + 2) if version else (0, at)
        base, at = _number(iloc, at + 2, base_size), at + 2 + base_size
        extents, at = _number(iloc, at, 2), at + 2
        if number == item and extents:
            offset, length = base + _number(iloc, at + index_size, offset_size), _number(iloc, at + index_size + offset_size, length_size)
            if inside == 1:
                return meta[b"idat"][offset : offset + length]
            return file.at(offset, min(length, _GRID_BYTES))
        at += extents * (index_size + offset_size + length_size)
    raise LookupError(item)


def _properties(iprp: bytes, item: int) -> Iterator[tuple[bytes, bytes]]:
    """The properties of an item (ISO 23008-12, 9.3)."""
    inside = dict(_boxes(iprp))
    properties, ipma = list(_boxes(inside[b"ipco"])), inside[b"ipma"]
    wide, long = (4 if ipma[0] else 2), bool(ipma[3] & 1)
    at = 8
    for _ in range(_number(ipma, 4, 4)):
        number, count, at = _number(ipma, at, wide), _number(ipma, at + wide, 1), at + wide + 1
        for _ in range(count):
            index, at = (_number(ipma, at, 2) & 0x7FFF, at + 2) if long else (_number(ipma, at, 1) & 0x7F, at + 1)
            if number == item and 0 < index <= len(properties):
                yield properties[index - 1]
