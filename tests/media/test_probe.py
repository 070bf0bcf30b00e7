"""What probing says of every kind of file, and how it refuses what is none."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from omnidrop_cli.errors import MediaError
from omnidrop_cli.media import probe as module
from omnidrop_cli.media.container import Source
from omnidrop_cli.media.probe import probe
from omnidrop_cli.media.timeline import Timeline
from omnidrop_cli.outputs import VideoStream
from tests.clips import Clips
from tests.media.tracks import packets


@pytest.mark.parametrize(
    ("name", "codec", "sound"),
    [
        ("speech_video", "h264", "aac"),
        ("webm", "vp9", "opus"),
        ("avi", "mpeg4", "mp3float"),
        ("mkv", "h264", "aac"),
        ("mov", "h264", "aac"),
        ("hevc", "hevc", "aac"),
        ("gif", "gif", None),
        ("silent_video", "h264", None),
        ("mp3", None, "mp3float"),
        ("m4a", None, "aac"),
        ("ogg", None, "opus"),
        ("wav", None, "pcm_s16le"),
        ("flac", None, "flac"),
        ("cover_mp3", None, "mp3float"),
    ],
)
def test_tracks(clips: Clips, name: str, codec: str | None, sound: str | None) -> None:
    facts = probe(clips[name])
    assert (facts.video.codec if facts.video else None) == codec
    assert (facts.audio.codec if facts.audio else None) == sound
    assert 1.9 < facts.duration_s < 6.2
    assert facts.size_bytes == clips[name].stat().st_size
    assert facts.sha256 is None


def test_facts_of_a_clip(clips: Clips) -> None:
    facts = probe(clips["speech_video"], hash_content=True)
    assert facts.video is not None
    assert facts.audio is not None
    assert (facts.video.width, facts.video.height, facts.video.fps, facts.video.frames, facts.video.rotation_deg) == (320, 180, 10, 60, 0)
    assert (facts.audio.sample_rate_hz, facts.audio.channels) == (44_100, 2)
    assert facts.sha256 == hashlib.sha256(clips["speech_video"].read_bytes()).hexdigest()


@pytest.mark.parametrize(("name", "turn"), [("rotated", 270), ("rotated_180", 180), ("rotated_270", 90)])
def test_rotation(clips: Clips, name: str, turn: int) -> None:
    video = probe(clips[name]).video
    assert video is not None
    assert video.rotation_deg == turn


def test_a_stream_that_does_not_say_how_long_it_is(clips: Clips, tmp_path: Path) -> None:
    import av

    live = tmp_path / "live.mkv"
    with av.open(str(clips["mkv"])) as source, av.open(str(live), "w", options={"live": "1"}) as out:
        tracks = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = tracks[packet.stream.index]
                out.mux(packet)
    assert probe(live).duration_s == pytest.approx(4.0, abs=0.1)


def test_mistakes(clips: Clips, tmp_path: Path) -> None:
    prose = tmp_path / "notes.txt"
    prose.write_text("Not a film.\n" * 50)
    words_only = tmp_path / "talk.srt"
    words_only.write_text("1\n00:00:00,000 --> 00:00:02,000\nHello\n")
    cases = {
        tmp_path / "nothing.mp4": "no such file",
        words_only: "no video and no audio track in this srt file",
        tmp_path: "is a folder",
        clips["empty"]: "is empty",
        clips["text_mp4"]: "cannot be read",
        clips["cut_no_index"]: "cannot be read",
        prose: "text file",
    }
    for path, words in cases.items():
        with pytest.raises(MediaError, match=words) as caught:
            probe(path)
        assert path.name in caught.value.message
        assert caught.value.hint
        assert "\n" not in caught.value.message


@pytest.mark.parametrize(("name", "hint"), [("tlk.mp4", "did you mean talk.mp4"), ("cake.wav", "check the path"), ("no/talk.mp4", "check")])
def test_a_misspelt_file_is_named(name: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / "talk.mp4").touch()
    with pytest.raises(MediaError, match="no such file") as caught:
        probe(tmp_path / name)
    assert hint in (caught.value.hint or "")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_unreadable(clips: Clips, tmp_path: Path) -> None:
    secret = Path(shutil.copy(clips["wav"], tmp_path))
    secret.chmod(0)
    with pytest.raises(MediaError, match="permission denied"):
        probe(secret)


def test_names_are_names(clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a colon nor a dash at the front makes a file name a protocol or an option."""
    monkeypatch.chdir(tmp_path)
    for name in ("pipe:0", "concat:a|b.mp4", "-i.mp4", "tag [bold]#1 ü.mp4"):
        shutil.copy(clips["silent_video"], tmp_path / name)
        assert probe(name).video is not None


def test_neither_torch_nor_the_downloader_is_imported() -> None:
    code = (
        "import sys, omnidrop_cli.media.clip, omnidrop_cli.media.source;"
        "print(sorted({'torch', 'transformers', 'yt_dlp', 'av', 'soundfile'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_wav_cut_within_its_header_is_refused(clips: Clips, tmp_path: Path) -> None:
    whole = clips["wav"].read_bytes()
    data = whole.index(b"data")
    for size in range(4, data + 9):
        (tmp_path / "cut.wav").write_bytes(whole[:size])
        with pytest.raises(MediaError):
            probe(tmp_path / "cut.wav")


# ---------------------------------------------------------------- what a container says


class Reader:
    """A track's reader that only remembers."""

    def __init__(self) -> None:
        self.got: list[object] = []

    def add(self, order: int, packet: Any) -> None:
        self.got.append((order, packet.pts))

    def finish(self) -> None:
        self.got.append("finished")


def packet(index: int, pts: int | None, duration: int | None = None, tick: Fraction | None = Fraction(1, 10)) -> Any:
    return SimpleNamespace(stream_index=index, pts=pts, duration=duration, time_base=tick, size=1)


@pytest.mark.parametrize(
    ("some", "start_us", "reached_s"),
    [
        ([], None, 0.0),
        ([packet(0, 10), packet(0, 30), packet(0, 20)], 0, 3.0),
        ([packet(0, 10, 5), packet(0, 30, 10), packet(0, 35, None)], None, 4.0),
        ([packet(0, 30), packet(1, 900, tick=Fraction(1, 100))], 0, 9.0),
        ([packet(0, 950), packet(1, 900, tick=Fraction(1, 100))], 0, 95.0),
        ([packet(0, None, 500), packet(0, 10), packet(0, 90, tick=None)], 0, 1.0),
        ([packet(0, 30)], 1_000_000, 3.0),  # a clip that begins at 1 s
        ([packet(0, 30)], -1_000_000, 4.0),  # before 0
    ],
)
def test_how_far_the_packets_reach(some: list[Any], start_us: int | None, reached_s: float) -> None:
    reader: Any = Reader()
    container: Any = SimpleNamespace(demux=lambda *_: iter(some), start_time=start_us)
    assert module._read_packets(container, {0: reader}) == reached_s
    assert reader.got == [*((n, one.pts) for n, one in enumerate(some) if one.stream_index == 0), "finished"]


@pytest.mark.parametrize(
    ("seconds", "kilobits", "flags", "promised_s"),
    [
        (10.0, [None], 0, 10.0),
        (10.0, [8.0], 0, None),  # as many bits as FFmpeg multiplies: an estimate
        (10.0, [6.0, 2.0, None], 0, None),
        (10.19, [8.0], 0, None),
        (10.21, [8.0], 0, 10.21),
        (9.79, [8.0], 0, 9.79),
        (10.0, [4.0], 0, 10.0),
        (None, [None], 0, None),
        (-1.0, [None], 0, None),
        (0.000001, [None], 0, 0.000001),
        (10.0, [None], 0x200, None),  # time stamps may jump
    ],
)
def test_the_length_that_a_header_states(seconds: float | None, kilobits: list[float | None], flags: int, promised_s: float | None) -> None:
    streams = [SimpleNamespace(codec_context=SimpleNamespace(bit_rate=None if k is None else int(k * 1000))) for k in kilobits]
    container: Any = SimpleNamespace(
        format=SimpleNamespace(name="mp4", flags=flags),
        duration=None if seconds is None else round(seconds * 1e6),
        streams=[*streams, SimpleNamespace(codec_context=None)],
    )
    found = module._promised_s(container, Source(Path("a"), 10_000, 0, ((0, 10_000),)))
    assert found == (None if promised_s is None else pytest.approx(promised_s))


def wav(size: int, rate: int = 8_000, block: int = 2, bytes_per_s: int = 16_000, between: bytes = b"") -> bytes:
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate, bytes_per_s, block, 16)
    return b"RIFF\0\0\0\0WAVE" + form + between + b"data" + struct.pack("<I", size)


@pytest.mark.parametrize(
    ("head", "promised_s"),
    [
        (wav(40_000), 2.5),
        (wav(40_000, between=b"LIST" + bytes(30_000)), 2.5),
        (wav(40_000, between=bytes((1 << 16) - 44)), 2.5),
        (wav(40_000, between=bytes((1 << 16) - 43)), None),  # not within 64 KiB
        (wav(40_000)[:-1], None),
        (wav(40_000)[:33], None),
        (b"RIFF\0\0\0\0WAVEdata" + bytes(50), None),
        (wav(40_000)[:36] + bytes(50), None),
        (wav(40_000, bytes_per_s=16_001), None),  # compressed
        (wav(40_000, bytes_per_s=0, block=0), None),
        (wav(0x7FFEFFFF), 0x7FFEFFFF / 16_000),
        (wav(0x7FFF0000), None),  # written to a pipe
        (wav(0xFFFFFFFF), None),
    ],
)
def test_the_length_that_a_wav_states(head: bytes, promised_s: float | None, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(head)
    container: Any = SimpleNamespace(format=SimpleNamespace(name="wav"))
    assert module._promised_s(container, Source(path, len(head), 0, ((0, len(head)),))) == promised_s


@pytest.mark.parametrize(
    ("average", "guessed", "fps"),
    [(25, 30, 25.0), (None, 30, 30.0), (None, None, 25.0), (1000, 30, 1000.0), (1001, 30, 25.0), (-5, 30, 25.0), (0.5, 30, 0.5)],
)
def test_the_rate_of_a_track(average: float | None, guessed: float | None, fps: float) -> None:
    stream = SimpleNamespace(
        average_rate=average, guessed_rate=guessed, sample_aspect_ratio=None, codec_context=SimpleNamespace(name="h264")
    )
    reader: Any = SimpleNamespace(packets=lambda usual_s: usual_s)
    facts, usual_s = module._video(stream, reader, module.Picture(64, 48, 90, True))
    assert facts == VideoStream("h264", 64, 48, fps, None, rotation_deg=90, mirrored=True)
    assert usual_s == 1 / fps


@pytest.mark.parametrize(
    ("form", "frames", "promised_s", "fps"),
    [
        ("avi", 3, None, 0.5),
        ("avi", 3, 1_000_000.0, None),  # the header states such a length
        ("avi", 0, 1_000_000.0, None),
        ("mov,mp4", 3, 1_000_000.0, None),
        ("mov,mp4", 0, 1_000_000.0, 0.5),  # fragments, whose lengths FFmpeg adds up
    ],
)
def test_pictures_that_a_header_spreads_over_days(form: str, frames: int, promised_s: float | None, fps: float | None) -> None:
    """Three pictures, 100,000 s apart, and six seconds of audio."""
    stream = SimpleNamespace(container=SimpleNamespace(format=SimpleNamespace(name=form)), frames=frames, time_base=Fraction(1, 1000))
    facts = VideoStream("h264", 64, 48, 0.00001, None)
    video = facts, packets([0.0, 1e5, 2e5], length_s=1e5)
    audio: Any = None, packets([0.0], length_s=6.0)
    (found, moved), notes = module._credible(video, audio, stream, promised_s)
    assert found.fps == (0.00001 if fps is None else fps)
    assert moved.pts_s.tolist() == ([0.0, 1e5, 2e5] if fps is None else [0.0, 2.0, 4.0])
    assert len(notes) == (fps is not None)


def test_a_track_is_never_faster_than_a_thousand_pictures_a_second() -> None:
    stream = SimpleNamespace(container=SimpleNamespace(format=SimpleNamespace(name="avi")), frames=3, time_base=Fraction(1000))
    audio: Any = None, packets([0.0], length_s=0.0015)
    (found, _), _ = module._credible((VideoStream("", 64, 48, 1.0, None), packets([0.0, 1e5, 2e5])), audio, stream, None)
    assert found.fps == 1000.0


@pytest.mark.parametrize(
    ("form", "parts", "open_list", "said"),
    [
        ("flv", 1, False, []),
        ("flv", 2, False, ["this file is 2 files one behind the other: all are used"]),
        ("ogg", 2, False, []),
        ("aac", 2, False, []),
        ("hls", 1, True, ["the playlist is still open: what it lists now is used"]),
    ],
)
def test_what_is_odd_about_a_file(form: str, parts: int, open_list: bool, said: list[str]) -> None:
    source = Source(Path("a"), 9, 0, ((0, 9),) * parts, open_list=open_list)
    assert list(module._warnings(source, form, Timeline(None, None, 0.0, ("a note",)))) == [*said, "a note"]


def test_a_time_scale_that_is_no_number_does_not_make_hours_of_a_silent_fragmented_clip(tmp_path: Path) -> None:
    """FFmpeg takes a tick for a second then, and the file states no length."""
    clip = tmp_path / "clip.mp4"
    source = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=2"]
    flags = ["-c:v", "libx264", "-movflags", "frag_keyframe+empty_moov+default_base_moof"]
    subprocess.run(["ffmpeg", "-v", "error", *source, *flags, str(clip)], check=True)
    data = bytearray(clip.read_bytes())
    scale = data.find(b"mdhd") + 16
    data[scale] = 0x8E
    clip.write_bytes(data)
    facts = module.probe(clip)
    assert facts.duration_s == pytest.approx(2.0, abs=0.05)
    assert facts.video is not None
    assert facts.video.fps == pytest.approx(25)
