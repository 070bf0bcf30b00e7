"""Photos in tiles: what the boxes of a file say of its grid, in every version of them, and the picture put together."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import pytest

from omnidrop_cli.media import tiles
from omnidrop_cli.media.tiles import Grid, assembled, find_grid
from tests.media.cases import heic

PRIMARY, DECOY = 0x0102, 7
IREF, JUNK = b"iref", b"junk"


def box(kind: bytes, *content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, content)), kind) + b"".join(content)


@dataclass(frozen=True)
class Layout:
    """How a file writes down a grid of 2 x 3 tiles (ISO 14496-12, 8.11; ISO 23008-12)."""

    long_ids: bool = False
    """Numbers of items have four bytes."""
    long_properties: bool = False
    wide: bool = False
    """The size of the picture has 32 bits."""
    places: tuple[int, int, int, int] = (4, 4, 0, 0)
    """Bytes of an offset, a length, a base and an index in `iloc`."""
    version: int = 1
    inside: bool = True
    """The record of the grid lies in `idat`."""
    kind: bytes = b"grid"
    rows: int = 2
    columns: int = 3
    size: tuple[int, int] = (300, 180)
    tile: tuple[int, int] = (256, 65_536)
    extents: int = 1
    length: int | None = None
    """Bytes of the record by `iloc`; None for all."""
    own: tuple[int, ...] = (1, 2, 0, 9, 4)
    """The properties of the picture. There are four."""
    behind: bytes = b"\1" * 5
    """What follows the tiles in the box that lists them."""

    @property
    def tiles(self) -> tuple[int, ...]:
        return tuple(range(self.number + 1, self.number + 7))

    @property
    def number(self) -> int:
        return PRIMARY << 8 * self.long_ids

    def id(self, number: int) -> bytes:
        return struct.pack(">I" if self.long_ids else ">H", number)

    @property
    def grid(self) -> Grid:
        return Grid(2, 3, *self.size, self.tiles, ((b"irot", 3), (b"imir", 1)))


def written(layout: Layout, before: bytes = b"") -> bytes:
    """A file with that grid, among items, references and properties that are not its own. `before`: boxes in front of `meta`."""
    record = struct.pack(">BBBB", 9, 0xFE | layout.wide, layout.rows - 1, layout.columns - 1)
    record += struct.pack(">II" if layout.wide else ">HH", *layout.size)
    head = box(b"ftyp", b"heic", bytes(4)) + before
    full = bytes([layout.long_ids, 0, 0, 0])
    count = struct.pack(">I" if layout.long_ids else ">H", 3)
    own = b"".join(struct.pack(">H", 0x8000 | p) if layout.long_properties else bytes([0x80 | p]) for p in layout.own)
    used = layout.id(DECOY) + b"\1" + (b"\0\2" if layout.long_properties else b"\2")
    used += layout.id(layout.number) + bytes([len(layout.own)]) + own
    for tile in layout.tiles:
        used += layout.id(tile) + (b"\2\0\2\0\3" if layout.long_properties else b"\2\2\3")
    ispe = box(b"ispe", bytes(4), struct.pack(">II", *layout.tile))
    properties = box(b"irot", b"\xff"), box(b"pixi", b"\3"), ispe, box(b"imir", b"\xff")

    def infe(number: int, kind: bytes) -> bytes:
        return box(b"infe", bytes([2 + layout.long_ids, 0, 0, 0]), layout.id(number), b"\0\0", kind, b"\0")

    def iloc(at: int) -> bytes:
        offset, length, base, index = layout.places
        known = bytes([layout.version, 0, 0, 0, offset << 4 | length, base << 4 | (index if layout.version else 8)])

        def number(value: int, size: int) -> bytes:
            return value.to_bytes(size, "big") if size else b""

        def item(which: int, begins: int, ends: int, extents: int) -> bytes:
            back = 3 if base and offset else 0
            entry = number(which, 4 if layout.version == 2 else 2)
            entry += number(0x10 | layout.inside, 2) if layout.version else b""
            entry += b"\x77\x77" + number(begins - back, base) + number(extents, 2)
            extent = number(5, index) + number(back if base else begins, offset) + number(ends - begins, length)
            return entry + extent * extents

        end = at + (len(record) if layout.length is None else layout.length)
        items = [item(DECOY, at + 1, end, 2), item(layout.number, at, end, layout.extents), item(DECOY + 1, at + 1, end, 1)]
        return box(b"iloc", known, number(3, 4 if layout.version == 2 else 2), *items)

    def meta(at: int) -> bytes:
        return box(
            b"meta",
            bytes(4),
            box(b"pitm", full, layout.id(layout.number)),
            iloc(5 if layout.inside else at),
            box(b"iinf", full, count, box(JUNK, layout.id(layout.number) * 9), infe(DECOY, b"hvc1"), infe(layout.number, layout.kind)),
            box(
                IREF,
                full,
                box(b"dimg", layout.id(DECOY), b"\0\1", layout.id(layout.tiles[0])),
                box(b"dimg", layout.id(layout.number), b"\0\6", *map(layout.id, layout.tiles), layout.behind),
                box(b"thmb", layout.id(layout.number), b"\0\1", layout.id(DECOY)),
            ),
            box(
                b"iprp",
                box(b"ipco", *properties),
                box(b"ipma", bytes([layout.long_ids, 0, 0, 2 * 3 | layout.long_properties]), struct.pack(">I", 8), used),
            ),
            box(b"idat", b"\1\1\1\1\1", record if layout.inside else b""),
        )

    return head + meta(len(head) + len(meta(99)) + 8) + box(b"mdat", record, b"\1" * 99) + box(b"pitm", bytes(6))


LAYOUTS = [
    Layout(),
    Layout(long_ids=True, version=2),
    Layout(long_properties=True),
    Layout(wide=True, size=(70_000, 1)),
    Layout(version=0, inside=False),
    Layout(version=0, inside=False, places=(8, 8, 8, 0)),
    Layout(version=1, places=(8, 4, 4, 4)),
    Layout(version=1, inside=False, places=(4, 8, 4, 8), wide=True),
    Layout(long_ids=True, version=2, places=(4, 8, 0, 4), long_properties=True),
    Layout(places=(0, 4, 4, 0)),
    Layout(tile=(1, 1 << 24)),
    Layout(tile=(1 << 24, 1)),
    Layout(extents=2),
    Layout(behind=b""),
    Layout(long_ids=True, version=2, behind=b""),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_grid_is_found_in_every_version_of_its_boxes(layout: Layout) -> None:
    assert find_grid(io.BytesIO(written(layout))) == layout.grid
    assert find_grid(io.BytesIO(written(replace(layout, kind=b"iovl")))) is None, "a picture of pictures that lie on each other"


@pytest.mark.parametrize(
    "damage",
    [
        {"rows": 3},
        {"columns": 2},
        {"size": (0, 180)},
        {"size": (300, 0)},
        {"extents": 0},
        {"length": 6},
        {"length": 6, "version": 0, "inside": False},
    ],
)
def test_a_record_that_contradicts_itself_is_none(damage: dict[str, int]) -> None:
    assert find_grid(io.BytesIO(written(replace(Layout(), **damage)))) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("tile", [(0, 1 << 24), (128, 0)])
def test_a_tile_without_a_size_is_refused(tile: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="a tile of the picture has no size"):
        find_grid(io.BytesIO(written(Layout(tile=tile))))


def test_a_property_that_is_no_size_is_none() -> None:
    with pytest.raises(ValueError, match="a tile of the picture has no size"):
        find_grid(io.BytesIO(written(Layout()).replace(b"ispe", b"pixi")))


@pytest.mark.parametrize("kind", [b"pitm", b"iloc", b"iinf", b"infe", b"iref", b"iprp", b"ipco", b"ipma", b"idat", b"meta", b"ftyp"])
def test_without_one_of_its_boxes_there_is_no_grid(kind: bytes) -> None:
    data = written(Layout())
    assert find_grid(io.BytesIO(data.replace(kind, JUNK))) is None
    assert find_grid(io.BytesIO(data[data.index(b"meta") - 4 :])) is None, "no photo begins with it"


def test_a_file_that_ends_early_or_is_damaged_has_a_grid_or_none() -> None:
    data = written(Layout(version=0, inside=False))
    record = data.index(b"mdat") + 4
    for size in range(record + 8):
        assert find_grid(io.BytesIO(data[:size])) is None
    rng = np.random.default_rng(0)
    for at in range(16, record):
        damaged = bytearray(data)
        damaged[at] = rng.integers(256)
        with suppress(ValueError):
            find_grid(io.BytesIO(damaged))


def test_a_number_that_is_cut_off_is_none() -> None:
    assert tiles._number(b"abc", 1, 2) == 0x6263
    with pytest.raises(IndexError):
        tiles._number(b"abc", 2, 2)


@pytest.mark.parametrize(
    ("before", "found"),
    [
        (box(b"free"), True),
        (struct.pack(">I4sQ", 1, b"free", 20) + b"1234", True),
        (box(b"free") * 62, True),
        (box(b"free") * 63, False),
        (struct.pack(">I4s", 7, b"free"), False),
        (struct.pack(">I4sQ", 1, b"free", 7), False),
        (struct.pack(">I4sQ", 1, b"free", (1 << 64) - 1), False),
        (struct.pack(">I4sQ", 1, b"free", (1 << 56) + 20) + b"1234", False),
        (struct.pack(">I4s", 2, b"free"), False),
    ],
)
def test_boxes_in_front_are_stepped_over(before: bytes, found: bool) -> None:
    assert find_grid(io.BytesIO(written(Layout(), before))) == (Layout().grid if found else None)


def test_an_offset_that_is_farther_than_files_can_be() -> None:
    data = written(Layout(version=0, inside=False, places=(8, 8, 8, 0)))
    at = data.index(struct.pack(">HH", PRIMARY, 0x7777)) + 4
    assert find_grid(io.BytesIO(data[:at] + b"\xff" * 8 + data[at + 8 :])) is None


def test_boxes_end_with_the_data_or_with_a_size_below_a_header() -> None:
    assert list(tiles._boxes(box(b"aaaa", b"x") + box(b"bbbb"))) == [(b"aaaa", b"x"), (b"bbbb", b"")]
    assert list(tiles._boxes(box(b"aaaa") + b"\0\0\0\7bbbb" + box(b"cccc"))) == [(b"aaaa", b"")]
    assert list(tiles._boxes(box(b"aaaa") + b"\0\0\0\x08bbb")) == [(b"aaaa", b"")]


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.heic"
    heic(path)
    return path


def put_together(photo: Path, grid: Grid) -> np.ndarray:
    with av.open(assembled(str(photo), grid)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def colours(picture: np.ndarray, side: int = 128) -> str:
    """The colour in the middle of each tile, row by row."""
    names = {(True, False, False): "R", (False, True, False): "G", (False, False, True): "B", (True, True, True): "W"}
    return "/".join("".join(names[tuple(pixel > 127)] for pixel in row[side // 2 :: side]) for row in picture[side // 2 :: side])


@pytest.mark.parametrize(
    ("grid", "shape", "seen"),
    [
        (Grid(1, 1, 128, 128, (2,), ()), (128, 128), "R"),
        (Grid(1, 4, 512, 128, (2, 3, 4, 5), ()), (128, 512), "RGBW"),
        (Grid(3, 1, 100, 380, (3, 5, 3), ()), (380, 100), "G/W/G"),
        (Grid(2, 3, 384, 256, (2, 3, 4, 5, 4, 3), ()), (256, 384), "RGB/WBG"),
        (Grid(2, 3, 384, 256, (2, 3, 4, 5, 4, 3), ((b"irot", 1),)), (384, 256), "BG/GB/RW"),
        (Grid(2, 3, 384, 256, (2, 3, 4, 5, 4, 3), ((b"imir", 0),)), (256, 384), "WBG/RGB"),
        (Grid(2, 3, 384, 256, (2, 3, 4, 5, 4, 3), ((b"imir", 1),)), (256, 384), "BGR/GBW"),
    ],
)
def test_tiles_lie_row_by_row(photo: Path, grid: Grid, shape: tuple[int, int], seen: str) -> None:
    picture = put_together(photo, grid)
    assert picture.shape[:2] == shape
    assert colours(picture) == seen


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        (Grid(1, 2, 200, 128, (2, 9), ()), "a tile of the picture is damaged"),
        (Grid(1, 2, 257, 128, (2, 3), ()), "257 x 128 pixels in 2 tiles of 128 x 128"),
        (Grid(1, 2, 256, 129, (2, 3), ()), "256 x 129 pixels in 2 tiles of 128 x 128"),
        (Grid(91, 91, 9, 9, (2,) * 91 * 91, ()), "9 x 9 pixels in 8281 tiles"),
    ],
)
def test_tiles_that_make_no_picture(photo: Path, grid: Grid, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        assembled(str(photo), grid)
