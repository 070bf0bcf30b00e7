"""What probing says of every kind of file, and how it refuses what is none."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from omnidrop_cli.errors import MediaError
from omnidrop_cli.media.probe import probe
from tests.clips import Clips


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
