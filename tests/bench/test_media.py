"""`bench media`, and the command line of both benches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from omnidrop_cli.bench.media import bench_media
from omnidrop_cli.config import MediaConfig
from omnidrop_cli.errors import MediaError
from omnidrop_cli.media.clip import decode_media
from tests.bench.bodies import body_of
from tests.clips import Clips
from tests.commands.running import run


def test_a_clip_is_decoded_as_for_a_question(clips: Clips) -> None:
    options = MediaConfig(fps=1, max_frames=6)
    body = body_of(bench_media([clips["speech_video"], clips["wav"]], options, repeats=1))
    video, audio = (group["runs"][0]["facts"] for group in body["groups"])
    clip = decode_media(clips["speech_video"], options)
    assert clip.frames is not None
    assert clip.waveform is not None
    assert (video["frames"], video["size"]) == (len(clip.frames), list(clip.frames.shape[2:]))
    assert video["audio_seconds"] == len(clip.waveform) / 16_000
    assert (audio["frames"], audio["digest"]) == (0, None)
    assert body["groups"][1]["subject"].startswith(f"{clips['wav'].name}: audio alone")


def test_a_file_that_is_no_clip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("no clip")
    with pytest.raises(MediaError):
        bench_media([path], MediaConfig())


def test_bench_without_a_name_is_bench_prefill(clips: Clips, tmp_path: Path) -> None:
    target = tmp_path / "media.json"
    done = run("bench", "media", str(clips["silent_video"]), "--no-audio", "--max-frames", "4", "--repeats", "1", "-o", str(target))
    assert done.code == 0, done.err
    assert "silent_video" in done.out
    body = json.loads(target.read_text())
    assert (body["kind"], body["repeats"], body["facts"]["audio"]) == ("media", 1, False)
    assert body["groups"][0]["runs"][0]["facts"]["frames"] == 4
    assert body["command"].startswith("omnidrop bench media")
    done = run("bench", "--model", "nano", "--seconds", "2", "--methods", "none", "--encoders", "2", "--repeats", "2", "--json")
    assert done.code == 0, done.err
    body = json.loads(done.out)
    assert (body["kind"], body["repeats"], body["facts"]["prompt"]) == ("prefill", 2, "2 s in the papers' layout")
    assert [run["name"] for group in body["groups"] for run in group["runs"]] == ["none", "vision", "audio"]


def test_bench_measures_a_clip_with_the_asked_methods(clips: Clips) -> None:
    done = run("bench", str(clips["speech_video"]), "--model", "nano", "-m", "random@0.5", "--repeats", "1", "--max-frames", "4", "--json")
    assert done.code == 0, done.err
    body = json.loads(done.out)
    assert body["facts"]["prompt"] == str(clips["speech_video"])
    _, half = body["groups"][0]["runs"]
    assert half["name"] == "random@0.5"
    assert half["facts"]["retention_after"] == pytest.approx(0.5, abs=0.01)


def test_wrong_methods_are_refused_before_anything_loads() -> None:
    done = run("bench", "--model", "nano", "-m", "omnidrip@0.3")
    assert (done.code, "omnidrip" in done.err) == (2, True)
