"""The frames are those of a full decode, pixel by pixel, though most packets are never decoded."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from omnidrop_cli.config import MediaConfig
from omnidrop_cli.media import video
from omnidrop_cli.media.clip import decode_media, plan_clip
from omnidrop_cli.media.seek_plan import Action
from omnidrop_cli.media.timeline import VideoTrack
from omnidrop_cli.media.video import Frames, read_frames
from omnidrop_cli.outputs import VideoStream
from tests import clips as make
from tests import signals
from tests.clips import Clips
from tests.signals import frame_index

DEFAULT = MediaConfig()


def indices(frames: np.ndarray | None) -> list[int]:
    assert frames is not None
    return [frame_index(frame) for frame in frames]


def read(path: Path, shown: list[int], size: tuple[int, int]) -> Frames:
    """The frames with these numbers, in order of presentation."""
    plan = plan_clip(path, DEFAULT)
    track = plan.scan.timeline.video
    assert plan.frames is not None
    assert plan.source.video is not None
    assert track is not None
    choice = replace(plan.frames, packets=track.within(0, 1e9)[shown], size=size)
    return read_frames(plan.scan.source, track, choice, plan.source.video, lambda done: None)


def everything(track: VideoTrack, wanted: np.ndarray) -> np.ndarray:
    return np.full(len(track), Action.SHOW, np.int8)


@pytest.mark.parametrize("name", ["tone_video", "hevc", "webm", "vfr", "mkv", "gif"])
def test_skipping_changes_no_pixel(clips: Clips, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = decode_media(clips[name], MediaConfig(use_audio=False, max_frames=6))
    monkeypatch.setattr(video, "plan", everything)
    plain = decode_media(clips[name], MediaConfig(use_audio=False, max_frames=6))
    assert np.array_equal(quick.frames, plain.frames)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cores", "width", "height", "threads"),
    [
        (1, 1920, 1080, 4),
        (None, 1920, 1080, 4),
        (3, 1920, 1080, 12),
        (64, 1920, 1080, 16),
        (64, 4096, 4096, 16),
        (64, 4096, 4097, 15),
        (64, 7680, 4320, 8),
        (64, 16_384, 16_384, 1),
        (64, 16_384, 32_768, 1),
        (64, 0, 0, 16),
    ],
)
def test_the_decoders_threads_hold_few_pictures(
    cores: int | None, width: int, height: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each thread holds one."""
    monkeypatch.setattr(video.os, "cpu_count", lambda: cores)
    assert video._threads(width, height) == threads


def test_a_decoder_of_b_frames_has_these_threads(clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    track = plan_clip(clips["tone_video"], DEFAULT).scan.timeline.video
    assert track is not None
    monkeypatch.setattr(video, "_threads", lambda width, height: (width, height).index(180) + 5)
    with av.open(str(clips["tone_video"])) as container:
        codec = container.streams.video[0].codec_context
        assert codec.has_b_frames
        video._PartDecoder(container, track, 0)
        assert codec.thread_count == 6


@pytest.mark.parametrize(
    "options", [{"bf": "3", "g": "20"}, {"bf": "0", "g": "15"}, {"bf": "3", "g": "12", "x264-params": "open-gop=1:scenecut=0"}]
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_sparse_sampling_leaps_over_groups(tmp_path: Path, options: dict[str, str], suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most groups hold no wanted frame: they are neither decoded nor, once leaping pays, read; the frames are the same."""
    path = make.write(tmp_path / f"long.{suffix}", signals.pictures(400, 64, 96), fps=25, options=options)
    wanted = [3, 17, 130, 131, 298, 399]
    passes, one_pass = [], video._decode
    monkeypatch.setattr(video, "_decode", lambda *args: passes.append(1) or one_pass(*args))
    found: list[np.ndarray] = []
    for leap in (10**9, 16):
        monkeypatch.setattr(video, "_LEAP", leap)
        frames = read(path, wanted, (56, 84))
        assert frames.lost == 0
        assert indices(frames.pixels) == wanted
        found.append(frames.pixels)
    assert len(passes) == 2
    monkeypatch.setattr(video, "plan", everything)
    plain = read(path, wanted, (56, 84)).pixels
    assert np.array_equal(found[0], plain)
    assert np.array_equal(found[1], plain)


@pytest.mark.skipif("libsvtav1" not in av.codecs_available, reason="this PyAV has no AV1 encoder")
def test_av1_is_read_once_from_the_middle_of_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """dav1d keeps to the `skip_frame` it was opened with: opened on a packet that may be skipped, it would withhold wanted frames."""
    path = make.write(tmp_path / "av1.mp4", signals.pictures(120, 96, 128), fps=30, codec="libsvtav1", options={"preset": "12", "g": "120"})
    wanted = [41, 53, 54, 77]
    passes, one_pass = [], video._decode
    monkeypatch.setattr(video, "_decode", lambda *args: passes.append(1) or one_pass(*args))
    frames = read(path, wanted, (84, 112))
    assert (len(passes), frames.lost) == (1, 0)
    monkeypatch.setattr(video, "plan", everything)
    assert np.array_equal(frames.pixels, read(path, wanted, (84, 112)).pixels)


@pytest.mark.parametrize("lie", ["everything is a key frame", "nothing depends on anything", "nothing is needed"])
def test_a_plan_that_fails_costs_another_pass(clips: Clips, lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, truth = video.plan, decode_media(clips["silent_video"], DEFAULT).frames

    def plan(track: VideoTrack, wanted: np.ndarray) -> np.ndarray:
        show = honest(track, wanted) == Action.SHOW
        decoded = {"everything is a key frame": show, "nothing depends on anything": show | track.keyframe}.get(lie, show & False)
        return np.where(decoded, Action.SHOW, Action.DROP).astype(np.int8)

    monkeypatch.setattr(video, "plan", plan)
    assert np.array_equal(decode_media(clips["silent_video"], DEFAULT).frames, truth)  # type: ignore[arg-type]


def test_full_size_frames_are_never_all_in_memory(tmp_path: Path) -> None:
    """120 frames of 720p are 330 MB in RGB; what a decode adds to a bare interpreter stays far below."""
    path = make.write(
        tmp_path / "hd.mp4", (signals.picture(i, 720, 1280) for i in range(120)), fps=2, options={"preset": "ultrafast", "g": "8"}
    )
    code = (
        "import resource, sys, av\n"
        "from omnidrop_cli.media.clip import decode_media\n"
        "from omnidrop_cli.config import MediaConfig\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "clip = decode_media(sys.argv[1], MediaConfig())\n"
        "print(len(clip.frames), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 - clip.frames.nbytes)"
    )
    count, extra = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout.split()
    assert int(count) == 120
    assert int(extra) < 130e6


def test_frames_are_those_of_a_plain_reading(clips: Clips) -> None:
    """Against PyAV without any of our cleverness, and torch's antialiased bicubic, at 35 dB or better."""
    torch = pytest.importorskip("torch")
    clip = decode_media(clips["landscape"], DEFAULT)
    assert clip.frames is not None
    with av.open(str(clips["landscape"])) as container:
        whole = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for small, index in zip(clip.frames, indices(clip.frames), strict=True):
        full = torch.from_numpy(whole[index]).permute(2, 0, 1)[None].float()
        reference = torch.nn.functional.interpolate(full, small.shape[1:], mode="bicubic", antialias=True).clamp(0, 255)[0].numpy()
        assert 10 * np.log10(255**2 / ((small - reference) ** 2).mean()) > 30


@pytest.mark.parametrize(
    ("width", "height", "high", "wide"), [(224, 112, 56, 112), (112, 224, 112, 56), (300, 100, 37, 112), (112, 113, 112, 112)]
)
def test_a_frame_of_another_shape_lies_between_black_bars(width: int, height: int, high: int, wide: int) -> None:
    """The track's first frame was square."""
    shrink = video.shrinker((112, 112), VideoStream(codec="", width=200, height=200, fps=25.0, duration_s=None))
    frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 255, np.uint8), format="rgb24")
    lit = shrink(frame).min(axis=0) > 128
    assert lit.any(axis=1).sum() == high
    assert lit.any(axis=0).sum() == wide
    assert lit.sum() == high * wide
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    assert abs(rows[0] - (111 - rows[-1])) <= 1
    assert abs(columns[0] - (111 - columns[-1])) <= 1
