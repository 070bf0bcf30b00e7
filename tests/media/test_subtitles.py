"""Subtitles as text, from real files that ffmpeg wrote: tracks, files next to a clip, damaged and enormous ones."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest

from omnidrop_cli.config import MediaConfig, Request
from omnidrop_cli.errors import MediaError, UsageError
from omnidrop_cli.events import SILENT
from omnidrop_cli.media import open as media_open
from omnidrop_cli.media import subtitles
from omnidrop_cli.media.clip import decode_media, plan_clip
from omnidrop_cli.media.source import Fetched
from omnidrop_cli.media.subtitles import MAX_CHARACTERS, read_subtitles, same_language, subtitle_file
from omnidrop_cli.outputs import FrameBounds

SRT = """1
00:00:01,000 --> 00:00:03,000
<i>Hello</i> {\\an8}there &amp; <font color="red">you</font>

2
00:00:02,500 --> 00:00:04,000
Second line
and third

3
00:00:08,000 --> 00:00:09,000
größer
"""
LINES = ((1.0, "Hello there & you"), (2.5, "Second line\nand third"), (8.0, "größer"))
GERMAN = SRT.replace("Hello", "Hallo")


def ffmpeg(*words: object) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, words)], check=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """one.mp4, two.mkv (English SubRip, German ASS marked as default), web.webm, plain.mp4, pictures.mkv (as on a Blu-ray disc)."""
    place = tmp_path_factory.mktemp("subtitles")
    english, german = place / "source.english", place / "source.german"
    english.write_text(SRT, encoding="utf-8")
    german.write_text(GERMAN, encoding="utf-8")
    video, first, second = ("-f", "lavfi", "-i", "testsrc=d=10:r=5:s=96x64"), ("-f", "srt", "-i", english), ("-f", "srt", "-i", german)
    ffmpeg(*video, place / "plain.mp4")
    ffmpeg(*video, *first, "-map", 0, "-map", 1, "-c:s", "mov_text", "-metadata:s:s:0", "language=eng", place / "one.mp4")
    ffmpeg(*video, *first, *second, *("-map", 0, "-map", 1, "-map", 2, "-c:s:0", "srt", "-c:s:1", "ass"),
           *("-metadata:s:s:0", "language=eng", "-metadata:s:s:1", "language=ger"),
           *("-disposition:s:0", "0", "-disposition:s:1", "default"), place / "two.mkv")  # fmt: skip
    ffmpeg(*video, *first, "-map", 0, "-map", 1, "-c:s", "webvtt", place / "web.webm")
    (place / "source.sup").write_bytes(blu_ray(1) + blu_ray(3))
    ffmpeg(*video, "-f", "sup", "-i", place / "source.sup", "-map", 0, "-map", 1, "-c:s", "copy", place / "pictures.mkv")
    return place


def blu_ray(second: int) -> bytes:
    """A picture of 8 x 2 pixels in the format of Blu-ray discs."""

    def segment(kind: int, body: bytes) -> bytes:
        return b"PG" + struct.pack(">IIBH", second * 90000, 0, kind, len(body)) + body

    drawn = (b"\1" * 8 + b"\0\0") * 2
    shown = struct.pack(">HHBHBBBBHBBHH", 96, 64, 16, second, 128, 0, 0, 1, 0, 0, 0, 0, 0)
    window, colours = struct.pack(">BBHHHH", 1, 0, 0, 0, 8, 2), struct.pack(">BBBBBBB", 0, 0, 1, 235, 128, 128, 255)
    picture = struct.pack(">HBB", 0, 0, 0xC0) + struct.pack(">I", len(drawn) + 4)[1:] + struct.pack(">HH", 8, 2) + drawn
    return b"".join((segment(22, shown), segment(23, window), segment(20, colours), segment(21, picture), segment(128, b"")))


@pytest.mark.parametrize(
    ("name", "wanted", "language"),
    [
        ("one.mp4", "auto", "eng"),
        ("one.mp4", "en", "eng"),
        ("one.mp4", "en-US", "eng"),
        ("two.mkv", "eng", "eng"),
        ("web.webm", "auto", None),
    ],
)
def test_text_tracks(folder: Path, name: str, wanted: str, language: str | None) -> None:
    found, warnings = read_subtitles(folder / name, wanted, 0.0, None)
    assert found is not None
    assert (found.lines, found.language, warnings) == (LINES, language, ())


@pytest.mark.parametrize("wanted", ["auto", "de", "deu", "ger"])
def test_the_default_track_and_the_names_of_a_language(folder: Path, wanted: str) -> None:
    found, _ = read_subtitles(folder / "two.mkv", wanted, 0.0, None)
    assert found is not None
    assert found.lines[0][1].startswith("Hallo")
    assert (found.source, found.about) == ("track 2", "track 2, ger, 3 lines")


@pytest.mark.parametrize(
    ("start_s", "end_s", "seconds"),
    [(0.0, 2.5, (1.0,)), (2.0, 8.0, (0.0, 0.5)), (3.0, None, (0.0, 5.0)), (4.0, 8.0, ()), (8.5, None, (0.0,))],
)
@pytest.mark.parametrize("name", ["one.mp4", "two.mkv"])
def test_lines_of_a_part_count_from_its_start(
    folder: Path, name: str, start_s: float, end_s: float | None, seconds: tuple[float, ...]
) -> None:
    found, _ = read_subtitles(folder / name, "en", start_s, end_s)
    assert found is not None
    assert tuple(second for second, _ in found.lines) == pytest.approx(seconds)


def test_a_part_far_into_a_long_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading begins a minute before the part, with what is on the screen then."""
    sought, seek = list[float](), subtitles._seek
    monkeypatch.setattr(subtitles, "_seek", lambda container, at_s: sought.append(at_s) or seek(container, at_s))
    lines = "".join(f"{n}\n00:{n:02}:00,000 --> 00:{n:02}:30,000\nminute {n}\n\n" for n in range(6))
    (tmp_path / "x").write_text(lines)
    video = ("-f", "lavfi", "-i", "color=d=360:r=1:s=64x64")
    for suffix, codec in ((".mp4", "mov_text"), (".mkv", "srt"), (".ts", "")):
        if codec:
            ffmpeg(*video, "-f", "srt", "-i", tmp_path / "x", "-map", 0, "-map", 1, "-g", 10, "-c:s", codec, tmp_path / f"x{suffix}")
            found, _ = read_subtitles(tmp_path / f"x{suffix}", "auto", 190.0, 245.0)
            assert found is not None
            assert found.lines == ((0.0, "minute 3"), (50.0, "minute 4"))
    ffmpeg("-i", tmp_path / "x.mkv", "-map", 0, "-c", "copy", "-output_ts_offset", 7, tmp_path / "late.mkv")
    for start_s in (60.0, 60.5, 190.0):
        found, _ = read_subtitles(tmp_path / "late.mkv", "auto", start_s, start_s + 10)
        assert found is not None
        assert [words for _, words in found.lines] == [f"minute {start_s // 60:.0f}"]
    assert sought == pytest.approx([130.0, 130.0, 7.5, 137.0], abs=0.01)


def test_a_seek_is_in_microseconds_and_may_fail() -> None:
    asked: list[int] = []
    subtitles._seek(SimpleNamespace(seek=asked.append), 1.5)  # type: ignore[arg-type]
    assert asked == [1_500_000]

    def fails(_: int) -> None:
        raise av.error.PermissionError(1, "no")

    subtitles._seek(SimpleNamespace(seek=fails), 1.5)  # type: ignore[arg-type]


def test_only_the_track_is_read_where_pyav_can() -> None:
    tracks = [SimpleNamespace(discard="default") for _ in range(3)]
    subtitles._leave_out_others(SimpleNamespace(streams=tracks), tracks[1])  # type: ignore[arg-type]
    everything = getattr(av.stream, "Discard", None)  # PyAV 17 has none
    left_out = "default" if everything is None else everything.all
    assert [track.discard for track in tracks] == [left_out, "default", left_out]


def test_lines_are_on_the_clips_clock_where_the_file_begins_later(folder: Path, tmp_path: Path) -> None:
    ffmpeg("-i", folder / "two.mkv", "-map", 0, "-c", "copy", "-output_ts_offset", 7, tmp_path / "late.mkv")
    found, _ = read_subtitles(tmp_path / "late.mkv", "en", 0.0, None)
    assert found is not None
    assert found.lines == LINES
    assert plan_clip(tmp_path / "late.mkv", MediaConfig()).duration_s == pytest.approx(10.0, abs=0.1)


# ---------------------------------------------------------------- files next to a clip


@pytest.fixture
def clip(folder: Path, tmp_path: Path) -> Path:
    (tmp_path / "talk.mp4").symlink_to(folder / "one.mp4")
    return tmp_path / "talk.mp4"


def test_a_file_of_the_clips_name_comes_before_its_tracks(clip: Path) -> None:
    def source(wanted: str = "auto") -> str:
        found, _ = read_subtitles(clip, wanted, 0.0, None)
        assert found is not None
        assert subtitle_file(clip, wanted) == (clip.parent / found.source if "." in found.source else None)
        return found.source

    assert source() == "track 1"
    (clip.parent / "talk.part2.srt").write_text(GERMAN, encoding="utf-8")
    (clip.parent / "de.srt").write_text(GERMAN, encoding="utf-8")
    assert (source(), source("en")) == ("track 1", "track 1"), "these are of other clips"
    for name in ("talk.part2.srt", "de.srt"):
        named, _ = read_subtitles(clip, str(clip.parent / name), 0.0, None)
        assert named is not None
        assert named.language is None
    (clip.parent / "talk.de.srt").write_text(GERMAN, encoding="utf-8")
    (clip.parent / "talk2.srt").write_text(GERMAN, encoding="utf-8")
    assert (source(), source("de"), source("ger"), source("en")) == ("talk.de.srt", "talk.de.srt", "talk.de.srt", "track 1")
    ffmpeg("-f", "srt", "-i", clip.parent / "talk.de.srt", clip.parent / "talk.vtt")
    ffmpeg("-f", "srt", "-i", clip.parent / "talk.de.srt", clip.parent / "talk.ass")
    assert source() == "talk.vtt"
    (clip.parent / "talk.srt").write_text(SRT, encoding="utf-8")
    assert source() == "talk.srt"


@pytest.mark.parametrize("suffix", [".srt", ".vtt", ".ass", ".SRT"])
def test_every_format_of_files(clip: Path, suffix: str) -> None:
    (clip.parent / "source").write_text(SRT, encoding="utf-8")
    path = clip.parent / f"other{suffix}"
    ffmpeg("-f", "srt", "-i", clip.parent / "source", path)
    found, warnings = read_subtitles(clip, str(path), 0.0, None)
    assert found is not None
    assert (found.lines, found.source, warnings) == (LINES, path.name, ())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_encodings(clip: Path, encoding: str) -> None:
    (clip.parent / "talk.srt").write_bytes(SRT.encode(encoding))
    found, warnings = read_subtitles(clip, "auto", 0.0, None)
    assert found is not None
    assert found.lines == LINES
    assert warnings == (("talk.srt is not UTF-8: it was read as Windows-1252",) if encoding == "cp1252" else ())


def test_rolling_captions_are_said_once(clip: Path) -> None:
    """Automatic captions of video sites repeat the line before."""
    cues = [(0, 2, "so today"), (2, 4, "so today\nwe look at"), (4, 6, "we look at\nthe moon"), (6, 7, "the moon")]
    text = "".join(f"00:{begin:02}.000 --> 00:{end:02}.000\n{words}\n\n" for begin, end, words in cues)
    (clip.parent / "talk.vtt").write_text(f"WEBVTT\n\n{text}")
    found, _ = read_subtitles(clip, "auto", 0.0, None)
    assert found is not None
    assert " ".join(words for _, words in found.lines).split() == ["so", "today", "we", "look", "at", "the", "moon"]


def test_drawings_and_control_characters_are_no_words(clip: Path) -> None:
    ffmpeg("-f", "srt", "-i", _written(clip.parent / "s", SRT), clip.parent / "talk.ass")
    text = (clip.parent / "talk.ass").read_text(encoding="utf-8")
    drawing = "Dialogue: 0,0:00:05.00,0:00:06.00,Default,,0,0,0,,{\\p1}m 0 0 l 100 0{\\p0}\n"
    steering = "Dialogue: 0,0:00:06.00,0:00:07.00,Default,,0,0,0,,red\x1b[31m\u202e text\\hx\\nnext\n"
    (clip.parent / "talk.ass").write_text(text + drawing + steering, encoding="utf-8")
    found, _ = read_subtitles(clip, "auto", 4.5, 7.5)
    assert found is not None
    assert found.lines == ((1.5, "red [31m text x\nnext"),)


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_enormous_subtitles_are_cut_with_a_word(clip: Path) -> None:
    cues = "".join(f"{n}\n00:00:{n // 10:02},{n % 10}00 --> 00:00:{n // 10:02},{n % 10}50\n{n} {'word ' * 100}\n\n" for n in range(400))
    (clip.parent / "talk.srt").write_text(cues)
    found, (warning,) = read_subtitles(clip, "auto", 0.0, None)
    assert found is not None
    assert MAX_CHARACTERS - 600 < found.characters <= MAX_CHARACTERS
    assert f"is left out ({MAX_CHARACTERS} characters)" in warning
    with (clip.parent / "talk.srt").open("ab") as file:
        file.truncate(21 * 10**6)
    with pytest.raises(MediaError, match="too much for subtitles"):
        read_subtitles(clip, "auto", 0.0, None)


# ---------------------------------------------------------------- what cannot be read


def test_auto_goes_on_without_subtitles_and_says_so(folder: Path) -> None:
    assert read_subtitles(folder / "plain.mp4", "auto", 0.0, None) == (
        None,
        ("there are no subtitles: none in the clip, and no file of its name next to it",),
    )
    found, (warning,) = read_subtitles(folder / "pictures.mkv", "auto", 0.0, None)
    assert found is None
    assert "pictures.mkv are pictures, not text; it has no language (pgssub)" in warning


@pytest.mark.parametrize(
    ("name", "wanted", "message"),
    [
        ("two.mkv", "fr", "has no subtitles in 'fr'; it has eng .*ger"),
        ("plain.mp4", "en", "has no subtitles in 'en'$"),
        ("plain.mp4", "none.srt", "none.srt: the subtitles cannot be read .no such file"),
        ("plain.mp4", "folder/talk.txt", "is no subtitle file"),
    ],
)
def test_what_was_named_must_be_there(folder: Path, name: str, wanted: str, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        read_subtitles(folder / name, wanted, 0.0, None)


@pytest.mark.parametrize("content", [b"", b"\0" * 300, b"\x89PNG\r\n\x1a\n" * 50, b"no cues in here\n", b"\xff\xfe\xff"])
@pytest.mark.parametrize("suffix", [".srt", ".vtt", ".ass"])
def test_a_file_without_subtitles(clip: Path, suffix: str, content: bytes) -> None:
    (clip.parent / f"talk{suffix}").write_bytes(content)
    with pytest.raises(MediaError, match="holds no subtitles that can be read"):
        read_subtitles(clip, "auto", 0.0, None)


def test_a_file_has_the_clips_clock_where_a_part_was_fetched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy begins at 2 s of the clip and is asked about from 3 s on: its own track has the copy's clock, a file that of the clip."""
    monkeypatch.setattr(media_open, "fetch", lambda *_, **__: Fetched(folder / "one.mp4", offset_s=2.0))
    (folder / "named.srt").write_text(SRT, encoding="utf-8")
    for wanted, seconds in (("en", (0.0, 1.5, 7.0)), (str(folder / "named.srt"), (0.0, 5.0))):
        request = Request("https://example.org/x", "?", media_options=MediaConfig(start_s=3.0, subtitles=wanted))
        clip, _ = media_open.open_clip(request, FrameBounds(784, 3136), SILENT)
        assert clip.subtitles is not None
        assert tuple(second for second, _ in clip.subtitles.lines) == seconds
        assert clip.source.subtitles == clip.subtitles.about


def test_the_plan_and_the_clip_have_them(folder: Path) -> None:
    options = MediaConfig(subtitles="en", start_s=2.0).with_bounds(784, 784 * 4)
    plan, clip = plan_clip(folder / "one.mp4", options), decode_media(folder / "one.mp4", options)
    assert plan.subtitles == clip.subtitles
    assert clip.source.subtitles == "track 1, eng, 3 lines"
    assert decode_media(folder / "one.mp4", MediaConfig().with_bounds(784, 784 * 4)).source.subtitles is None
    with pytest.raises(UsageError, match="is empty"):
        MediaConfig(subtitles=" ")


# ---------------------------------------------------------------- lines


def test_lines_of_a_part_and_no_others() -> None:
    lines = subtitles._Lines(10.0, 20.0)
    assert lines.add(5.0, 10.0, "before")
    assert lines.add(5.0, 10.5, "on the screen at the start")
    assert lines.add(12.0, 13.0, "")
    assert lines.add(19.5, 30.0, "still within")
    assert not lines.add(20.0, 21.0, "behind")
    assert lines.found == [(0.0, "on the screen at the start"), (9.5, "still within")]
    assert lines.cut_at_s is None


def test_sixty_thousand_characters_are_taken() -> None:
    lines = subtitles._Lines(0.0, 99.0)
    assert lines.add(1.0, 2.0, "a" * 59_990)
    assert lines.add(2.0, 3.0, "b" * 10)
    assert not lines.add(3.0, 4.0, "c")
    assert (lines.characters, lines.cut_at_s, len(lines.found)) == (60_000, 3.0, 2)
    lines = subtitles._Lines(0.0, 99.0, damaged=1)
    assert not lines.add(7.0, 8.0, "a" * 60_001)
    assert list(lines.warnings("x")) == [
        "1 line of the subtitles (x) are damaged and left out",
        "the subtitles (x) are too long: what comes after 7 s is left out (60000 characters)",
    ]


def cue(pts: float | None, duration: float | None = 1, text: str = "word", size: int = 9) -> Any:
    def decode() -> list[Any]:
        if not text:
            raise ValueError("damaged")
        return [SimpleNamespace(ass=f"0,0,Default,,0,0,0,,{text}".encode())]

    return SimpleNamespace(pts=pts, duration=duration, size=size, time_base=Fraction(1), decode=decode)


def test_cues_without_a_time_or_content_are_left_out_and_damaged_ones_counted() -> None:
    def demux(_: Any) -> Iterator[Any]:
        yield from (cue(None), cue(12, size=0), cue(12, text="one, two, three"), cue(13, text=""), cue(14, text="four"))
        raise av.error.InvalidDataError(1, "damaged")

    lines = subtitles._Lines(10.0, 99.0)
    subtitles._collect(SimpleNamespace(demux=demux), None, lines, 2.0)  # type: ignore[arg-type]
    assert lines.found == [(0.0, "one, two, three"), (2.0, "four")]
    assert (lines.seen, lines.damaged) == (3, 2)


def test_a_cue_without_a_length_is_shown_at_its_moment() -> None:
    lines = subtitles._Lines(10.0, 20.0)
    some = iter([cue(Fraction(19, 2), None, "early"), cue(Fraction(19_999, 2_000), None), cue(11, 0, "late"), cue(21), cue(22)])
    subtitles._collect(SimpleNamespace(demux=lambda _: some), None, lines, 0.0)  # type: ignore[arg-type]
    assert lines.found == [(0.0, "word"), (1.0, "late")]
    assert len(list(some)) == 1, "nothing is read behind the end"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("en", "eng", True), ("en-US", "en", True), ("eng", "en_US", True), ("en-US", "EN-us", True), ("en-US", "en-GB", False),
        ("ger", "de", True), ("de", "en", False), (None, "en", False), ("xx-Latn", "xx", True), ("xxx", "xxx", True),
    ],
)  # fmt: skip
def test_names_of_a_language(one: str | None, other: str, same: bool) -> None:
    assert same_language(one, other) is same


def test_twenty_megabytes_are_read(clip: Path) -> None:
    with (clip.parent / "talk.srt").open("wb") as file:
        file.truncate(20_000_000)
    with pytest.raises(MediaError, match="holds no subtitles"):
        read_subtitles(clip, "auto", 0.0, None)
