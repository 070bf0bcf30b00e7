"""Which tracks of a container are chosen, and how far reading goes on behind damage, for containers that no encoder at hand writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest
from av.stream import Disposition

from omnidrop_cli.errors import MediaError
from omnidrop_cli.media.container import (
    FOREIGN,
    IN_TILES,
    Source,
    audio_track,
    find_source,
    foreign_tracks,
    has_cover,
    is_animated_webp,
    may_jump,
    packets,
    video_track,
)

NONE = Disposition(0)


class Streams(list):  # type: ignore[type-arg]
    """The streams of a container; `programmes` maps those of audio to the video of their programme."""

    programmes: dict[str, str]

    @property
    def video(self) -> list[Any]:
        return [s for s in self if s.type == "video"]

    @property
    def audio(self) -> list[Any]:
        return [s for s in self if s.type == "audio"]

    def best(self, kind: str, related: Any) -> Any:
        assert kind == "video"
        return next((s for s in self.video if s.name == self.programmes.get(related.name)), None)


def stream(kind: str, name: str, marks: Disposition = NONE, frames: int = 0, rate: int = 48_000, readable: bool = True) -> Any:
    codec = SimpleNamespace(sample_rate=rate) if readable else None
    return SimpleNamespace(type=kind, name=name, disposition=marks, frames=frames, codec_context=codec, time_base=1)


def picture(name: str, marks: Disposition = NONE, frames: int = 0, readable: bool = True) -> Any:
    return stream("video", name, marks, frames, readable=readable)


def sound(name: str, marks: Disposition = NONE, rate: int = 48_000, readable: bool = True) -> Any:
    return stream("audio", name, marks, rate=rate, readable=readable)


def container(*streams: Any, **programmes: str) -> Any:
    found = Streams(streams)
    found.programmes = programmes
    return SimpleNamespace(streams=found)


def name(track: Any) -> str | None:
    return None if track is None else str(track.name)


@pytest.mark.parametrize(
    ("streams", "chosen"),
    [
        ([], None),
        ([picture("a"), picture("b")], "a"),
        ([picture("a"), picture("b", Disposition.default), picture("c", Disposition.default)], "b"),
        ([picture("cover", Disposition.attached_pic | Disposition.default), picture("a")], "a"),
        ([picture("cover", Disposition.attached_pic)], None),
        ([picture("tile", Disposition.dependent), picture("a")], "a"),
        ([picture("poster", Disposition.default, frames=1), picture("a", frames=2)], "a"),
        ([picture("poster", frames=1), picture("b", Disposition.default, frames=1)], "b"),
        ([picture("x", Disposition.default, readable=False), picture("a")], "a"),
        ([sound("s")], None),
    ],
)
def test_the_video_track(streams: list[Any], chosen: str | None) -> None:
    assert name(video_track(container(*streams))) == chosen


def test_a_track_without_a_unit_of_time_is_not_readable() -> None:
    broken = picture("x")
    broken.time_base = None
    assert name(video_track(container(broken, picture("a")))) == "a"


@pytest.mark.parametrize(
    ("streams", "programmes", "chosen"),
    [
        ([], {}, None),
        ([sound("s"), sound("t", Disposition.default)], {}, "t"),
        ([picture("v"), sound("s", Disposition.default), sound("t")], {"s": "w", "t": "v"}, "t"),
        ([picture("v"), picture("w"), sound("s", Disposition.default), sound("t")], {"s": "w", "t": "v"}, "t"),
        ([picture("v"), sound("s"), sound("t", Disposition.default)], {}, "t"),
        *(
            ([sound("s", mark | Disposition.default), sound("t")], {}, "t")
            for mark in (Disposition.visual_impaired, Disposition.hearing_impaired, Disposition.comment, Disposition.descriptions)
        ),
        ([sound("s", Disposition.comment), sound("t", Disposition.comment | Disposition.default)], {}, "t"),
        ([sound("s", Disposition.default, rate=0), sound("t")], {}, "t"),
        ([sound("s", rate=0), sound("t", Disposition.comment)], {}, "s"),
        ([sound("s", Disposition.comment, rate=0), sound("t", Disposition.comment)], {}, "t"),
        ([sound("s", Disposition.comment, rate=0), sound("t", Disposition.comment | Disposition.default, rate=0)], {}, "t"),
        ([sound("s", Disposition.default, readable=False), sound("t")], {}, "t"),
    ],
)
def test_the_audio_track(streams: list[Any], programmes: dict[str, str], chosen: str | None) -> None:
    assert name(audio_track(container(*streams, **programmes))) == chosen


@pytest.mark.parametrize(
    ("streams", "foreign"),
    [
        ([], {}),
        ([picture("v"), sound("s")], {}),
        ([picture("v", readable=False), sound("s")], {"the video track": FOREIGN}),
        ([picture("v"), sound("s", readable=False)], {"the audio track": FOREIGN}),
        ([picture("c", Disposition.attached_pic, readable=False)], {}),
        ([picture("a", Disposition.dependent), picture("b", Disposition.dependent)], {"the video track": IN_TILES}),
        ([picture("a", Disposition.dependent), picture("b", readable=False)], {"the video track": FOREIGN}),
    ],
)
def test_tracks_that_cannot_be_decoded(streams: list[Any], foreign: dict[str, str]) -> None:
    assert foreign_tracks(container(*streams)) == foreign


def test_a_cover() -> None:
    assert has_cover(container(picture("v"), picture("c", Disposition.attached_pic)))
    assert not has_cover(container(picture("v")))


@pytest.mark.parametrize(
    ("head", "form", "animated"),
    [
        (b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x02", "webp_pipe", True),
        (b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x02", "png_pipe", False),
        (b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x11", "webp_pipe", False),
        (b"RIFF\0\0\0\0WEBPVP8L\x0a\0\0\0\x02", "webp_pipe", False),
    ],
)
def test_an_animated_webp(head: bytes, form: str, animated: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    path.write_bytes(head + b"\xff" * 9)
    found: Any = SimpleNamespace(format=SimpleNamespace(name=form))
    assert is_animated_webp(Source(path, len(head), 0, ()), found) == animated


@pytest.mark.parametrize(("flags", "jumps"), [(0x200, True), (0x1, False), (0x2000, False), (0x3FF, True)])
def test_formats_whose_time_stamps_may_jump(flags: int, jumps: bool) -> None:
    given: Any = SimpleNamespace(format=SimpleNamespace(flags=flags))
    assert may_jump(given) == jumps


@pytest.mark.parametrize(("errors", "read"), [(0, 1), (63, 1), (64, 0)])
def test_damaged_stretches_are_stepped_over(errors: int, read: int) -> None:
    calls: list[int] = []

    def demux(*_: Any) -> Iterator[Any]:
        calls.append(len(calls))
        if len(calls) <= errors:
            raise av.error.InvalidDataError(1, "damaged")
        yield from (SimpleNamespace(size=0), SimpleNamespace(size=5))

    given: Any = SimpleNamespace(demux=demux)
    assert [packet.size for packet in packets(given)] == [5] * read
    assert len(calls) == min(errors + 1, 64)


def test_a_file_of_one_byte_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    assert find_source(tmp_path / "a.mp4").size_bytes == 1
    (tmp_path / "b.mp4").touch()
    with pytest.raises(MediaError, match="is empty"):
        find_source(tmp_path / "b.mp4")
