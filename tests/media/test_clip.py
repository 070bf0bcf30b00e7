"""Every kind of file becomes the Clip it should, frame by frame, and says what is odd about it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from omnidrop_cli.config import MediaConfig
from omnidrop_cli.errors import MediaError, UsageError
from omnidrop_cli.events import ProgressCallback
from omnidrop_cli.media import clip as module
from omnidrop_cli.media.audio import Waveform
from omnidrop_cli.media.clip import decode_media, plan_clip
from tests import clips as make
from tests import signals
from tests.clips import Clips
from tests.signals import frame_index

DEFAULT = MediaConfig()


def indices(frames: np.ndarray | None) -> list[int]:
    assert frames is not None
    return [frame_index(frame) for frame in frames]


# ---------------------------------------------------------------- which frames


@pytest.mark.parametrize(
    "name", ["speech_video", "landscape", "portrait", "webm", "mkv", "mov", "hevc", "gif", "seven_fps", "ntsc", "odd_duration"]
)
def test_frames_are_qwens_choice(clips: Clips, name: str) -> None:
    clip = decode_media(clips[name], DEFAULT)
    assert clip.frames is not None
    assert clip.frame_times_s is not None
    assert clip.fps is not None
    fps = clip.source.video.fps if clip.source.video else 0
    total = clip.source.video.frames if clip.source.video and clip.source.video.frames else 0
    expected = np.linspace(0, total - 1, len(clip.frames)).round().astype(int)
    chosen = np.array(indices(clip.frames))
    # Halves are rounded up here, to even there: neighbours, equally near.
    assert np.abs(chosen - np.linspace(0, total - 1, len(clip.frames))).max() <= 0.5 + 1e-9
    assert (chosen == expected).mean() > 0.6
    assert np.allclose(clip.frame_times_s, chosen / fps, atol=1e-3)
    assert clip.fps == pytest.approx(len(clip.frames) / (total / fps), rel=1e-3)
    assert clip.frames.dtype == np.uint8
    assert clip.frames.shape[0] % 2 == 0
    assert clip.frames.shape[2] % 28 == 0 == clip.frames.shape[3] % 28
    assert clip.warnings == () or clip.source.audio is None


def test_variable_rate_goes_by_time(clips: Clips) -> None:
    clip = decode_media(clips["vfr"], DEFAULT)
    assert clip.frame_times_s is not None
    starts = np.array(make.VFR_TIMES_S)
    for moment, shown in zip(clip.frame_times_s, indices(clip.frames), strict=True):
        assert shown == np.searchsorted(starts, moment + 0.026, side="right") - 1
    assert np.all(np.diff(clip.frame_times_s) > 0)


def test_a_last_picture_that_stays(tmp_path: Path) -> None:
    """After 8.4 s nothing changes until 20 s: the last picture before the end stands for all that time."""
    path = make.write(tmp_path / "slides.mp4", signals.pictures(8), times_s=[0, 4, 8, 8.1, 8.2, 8.3, 8.4, 20.0])
    clip = decode_media(path, MediaConfig(end_s=20.0))
    assert clip.frame_times_s is not None
    shown = indices(clip.frames)
    assert shown == [0] * 8 + [1] * 8 + [2] + [6] * 23
    assert clip.frame_times_s[-1] == pytest.approx(19.5)
    assert clip.fps == pytest.approx(2.0)


def test_a_stretch_keeps_absolute_times(clips: Clips) -> None:
    clip = decode_media(clips["tone_video"], MediaConfig(start_s=2.0, end_s=4.0))
    assert indices(clip.frames) == [20, 26, 33, 39]
    assert clip.frame_times_s is not None
    assert np.allclose(clip.frame_times_s, [2.0, 2.6, 3.3, 3.9])
    assert (clip.start_s, clip.duration_s, clip.fps) == (2.0, 2.0, 2.0)
    assert clip.waveform is not None
    assert len(clip.waveform) == 32_000
    assert signals.onsets(clip.waveform) == pytest.approx([0.0, 1.0], abs=0.01)


def test_a_stretch_inside_a_long_group(clips: Clips) -> None:
    """The stretch begins far from a key frame: decoding starts before it, showing does not."""
    clip = decode_media(clips["silent_video"], MediaConfig(start_s=3.0, end_s=3.5))
    assert all(30 <= i < 35 for i in indices(clip.frames))


@pytest.mark.parametrize(
    ("option", "count"),
    [({"max_frames": 4}, 4), ({"fps": 4.0}, 24), ({"fps": 0.5}, 4), ({"min_frames": 2, "max_frames": 2}, 2), ({"max_frames": 7}, 6)],
)
def test_density(clips: Clips, option: dict[str, float], count: int) -> None:
    clip = decode_media(clips["tone_video"], MediaConfig(**option))  # type: ignore[arg-type]
    assert len(indices(clip.frames)) == count
    assert clip.fps == pytest.approx(count / 6.0)


def test_pixels(clips: Clips) -> None:
    clip = decode_media(clips["portrait"], MediaConfig(min_pixels=112 * 112, max_pixels=112 * 112))
    assert clip.frames is not None
    assert clip.frames.shape[2:] == (168, 112)
    assert indices(clip.frames)[-1] == 39


# ---------------------------------------------------------------- what is odd


@pytest.mark.parametrize(
    ("name", "size", "corner"),
    [("rotated", (448, 252), "right"), ("rotated_180", (252, 448), "bottom"), ("rotated_270", (448, 252), "left")],
)
def test_rotation_is_applied(clips: Clips, name: str, size: tuple[int, int], corner: str) -> None:
    """The bright square of frame 0 lies at the stored left, below the middle; turning the phone takes it elsewhere."""
    frames = decode_media(clips[name], DEFAULT).frames
    assert frames is not None
    assert frames.shape[2:] == size
    back = {"right": 1, "bottom": 2, "left": 3}[corner]  # turn clockwise pictures back counter-clockwise
    stored = np.rot90(frames, back, axes=(2, 3))
    assert indices(stored)[0] == 0
    assert indices(stored)[-1] in (19, 29)


def test_single_pictures(clips: Clips) -> None:
    for name in ("one_frame", "one_image_gif"):
        clip = decode_media(clips[name], DEFAULT)
        assert indices(clip.frames) == [0, 0]
        assert any("single frame" in warning for warning in clip.warnings)


def test_very_short(clips: Clips) -> None:
    clip = decode_media(clips["short"], DEFAULT)
    assert indices(clip.frames) == [0, 2]
    assert clip.has_audio
    assert clip.duration_s == pytest.approx(0.3, abs=0.03)


def test_late_pictures_are_filled_in(clips: Clips) -> None:
    """Pictures from 1.5 s on: the first one stands for the time before, so that picture and sound stay together."""
    clip = decode_media(clips["delayed_video"], DEFAULT)
    assert clip.frame_times_s is not None
    assert clip.fps is not None
    shown = indices(clip.frames)
    assert shown[:2] == [0, 0]
    assert shown[-1] == 29
    assert clip.frame_times_s[0] == 0.0
    assert np.allclose(clip.frame_times_s, np.arange(len(shown)) / clip.fps, atol=1 / clip.fps)
    assert any("begins 1.5 s after" in warning for warning in clip.warnings)


def test_missing_tracks_are_said(clips: Clips) -> None:
    silent, heard, cover = (decode_media(clips[name], DEFAULT) for name in ("silent_video", "wav", "cover_mp3"))
    assert (silent.has_audio, silent.has_video) == (False, True)
    assert (heard.has_audio, heard.has_video, heard.fps) == (True, False, None)
    assert "no audio track" in silent.warnings[0]
    assert "no video track" in heard.warnings[0]
    assert "cover image" in cover.warnings[0]
    assert not cover.has_video


def test_switched_off_tracks_are_not_said(clips: Clips) -> None:
    deaf, blind = (
        decode_media(clips["tone_video"], MediaConfig(use_audio=False)),
        decode_media(clips["tone_video"], MediaConfig(use_video=False)),
    )
    assert (deaf.has_audio, blind.has_video, deaf.warnings, blind.warnings) == (False, False, (), ())
    assert decode_media(clips["silent_video"], MediaConfig(use_audio=False)).warnings == ()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("wav", {"use_audio": False}, "audio only"),
        ("silent_video", {"use_video": False}, "video only"),
        ("tone_video", {"start_s": 60.0}, "6.0 s long"),
    ],
)
def test_nothing_left(clips: Clips, name: str, options: dict[str, float], words: str) -> None:
    with pytest.raises(MediaError, match=words) as caught:
        decode_media(clips[name], MediaConfig(**options))  # type: ignore[arg-type]
    assert caught.value.hint


def test_nothing_begins_at_the_end(clips: Clips) -> None:
    end_s = plan_clip(clips["tone_video"], DEFAULT).scan.timeline.end_s
    with pytest.raises(MediaError, match=r"is only 6\.0 s long"):
        plan_clip(clips["tone_video"], MediaConfig(start_s=end_s))


def test_no_audio_in_a_part_is_said(clips: Clips) -> None:
    early, late = (plan_clip(clips["delayed_audio"], MediaConfig(start_s=0.0, end_s=end_s)).warnings for end_s in (1.0, 3.0))
    assert early == ("there is no audio in this part of the clip: only the video is used",)
    assert late == ()


@pytest.mark.parametrize(
    ("promised_s", "reached_s", "end_s", "wanted_s", "said"),
    [
        (None, 5.0, 5.0, None, False),
        (5.5, 5.0, 5.0, None, False),
        (5.75, 5.0, 5.0, None, True),
        (9.0, 8.5, 5.0, None, False),  # another track reaches it
        (9.0, 5.0, 5.0, 5.5, False),  # what is asked for is there
        (9.0, 5.0, 5.0, 5.75, True),
        (9.0, 5.0, 5.0, 4.0, False),
    ],
)
def test_when_a_file_breaks_off(promised_s: float | None, reached_s: float, end_s: float, wanted_s: float | None, said: bool) -> None:
    scan = SimpleNamespace(promised_s=promised_s, reached_s=reached_s, timeline=SimpleNamespace(end_s=end_s))
    plan: Any = SimpleNamespace(scan=scan, options=SimpleNamespace(end_s=wanted_s))
    expected = [f"the file breaks off at {end_s:.1f} s of {promised_s or 0:.1f} s: it is cut or damaged"] if said else []
    assert list(module._about_the_end(plan)) == expected


@pytest.mark.parametrize(
    ("decoded_s", "overlap_s", "said"),
    [(4.0, 0.0, []), (3.5, 0.5, []), (3.25, 0.0, ["0.8 s of the audio are damaged"]), (4.0, 0.625, ["0.6 s of the audio lie on the rest"])],
)
def test_what_of_the_audio_could_not_be_used(decoded_s: float, overlap_s: float, said: list[str]) -> None:
    """Of the part from 2 s to 6 s, for all of which there are packets."""
    held: list[tuple[float, float]] = []
    audio = SimpleNamespace(held_s=lambda start_s, end_s: held.append((start_s, end_s)) or 4.0)
    scan, options = SimpleNamespace(timeline=SimpleNamespace(audio=audio)), SimpleNamespace(start_s=2.0)
    plan: Any = SimpleNamespace(frames=None, samples=64_000, audio_s=4.0, scan=scan, options=options)
    waveform = Waveform(np.zeros(64_000, np.float32), round(decoded_s * 16_000), 0, cancelled_out=False, overlap_s=overlap_s)
    found = list(module._about_decoding(plan, None, waveform))
    assert [one.startswith(words) for one, words in zip(found, said, strict=True)] == [True] * len(said)
    assert held == [(2.0, 6.0)]


def test_empty_stretch(clips: Clips) -> None:
    for start, end in ((2.0, 2.0), (3.0, 1.0), (-1.0, None)):
        with pytest.raises(UsageError):
            decode_media(clips["tone_video"], MediaConfig(start_s=start, end_s=end))


def test_after_the_last_picture(clips: Clips) -> None:
    clip = decode_media(clips["sound_longer"], MediaConfig(start_s=4.0))
    assert not clip.has_video
    assert clip.has_audio
    assert any("no video in this part" in warning for warning in clip.warnings)


@pytest.mark.parametrize("name", ["broken_tail", "cut_faststart"])
def test_damage_is_survived_and_said(clips: Clips, name: str) -> None:
    clip = decode_media(clips[name], DEFAULT)
    assert clip.has_video
    assert clip.has_audio
    assert 2.5 < clip.duration_s < 5.0
    assert any("breaks off" in warning for warning in clip.warnings)
    assert clip.frame_times_s is not None
    assert indices(clip.frames) == np.round(clip.frame_times_s * 10).astype(int).tolist()


def test_damage_in_the_middle(clips: Clips, tmp_path: Path) -> None:
    """Packets overwritten with noise, the index whole: what follows is used, and every frame is there."""
    data = bytearray(clips["speech_video"].read_bytes())
    at = data.index(b"mdat") + 8 + 20_000
    data[at : at + 12_000] = np.random.default_rng(1).integers(0, 256, 12_000, np.uint8).tobytes()
    (tmp_path / "hole.mp4").write_bytes(data)
    clip = decode_media(tmp_path / "hole.mp4", DEFAULT)
    assert clip.duration_s == pytest.approx(6.0, abs=0.1)
    shown = indices(clip.frames)
    assert len(shown) == 12
    assert (shown[0], shown[-1]) == (0, 59)


@pytest.mark.parametrize(("step", "failing", "left"), [("read_frames", "video", "has_audio"), ("read_audio", "audio", "has_video")])
@pytest.mark.parametrize("error", [av.error.PermissionError(1, "Operation not permitted"), ValueError("x"), ZeroDivisionError("x")])
def test_one_damaged_track_leaves_the_other(
    clips: Clips, monkeypatch: pytest.MonkeyPatch, step: str, failing: str, left: str, error: Exception
) -> None:
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(module, step, fails)
    clip = decode_media(clips["tone_video"], DEFAULT)
    assert getattr(clip, left)
    assert clip.has_audio != clip.has_video
    assert (clip.frame_times_s is None) == (clip.fps is None) == (not clip.has_video)
    assert any("cannot be decoded: only the" in warning for warning in clip.warnings)
    with pytest.raises(MediaError, match=f"{failing} track cannot be decoded"):
        decode_media(clips["tone_video"], MediaConfig(use_audio=left != "has_audio", use_video=left != "has_video"))


def test_progress(clips: Clips) -> None:
    class Listening(ProgressCallback):
        done: list[float] = []  # noqa: RUF012

        def advance(self, done: float, total: float | None) -> None:
            assert total == 12
            self.done.append(done)

    progress = Listening()
    decode_media(clips["tone_video"], DEFAULT, progress)
    assert progress.done == sorted(progress.done)
    assert progress.done


def test_an_error_does_not_wait_for_the_sound(clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sound thread hears of it, here on a track that would take ten seconds."""

    def endless(*args: Any) -> Waveform:
        deadline = time.monotonic() + 10
        while not args[-1]() and time.monotonic() < deadline:
            time.sleep(0.01)
        return Waveform(np.zeros(0, np.float32), 0, 0, cancelled_out=False, overlap_s=0.0)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "read_audio", endless)
    monkeypatch.setattr(module, "read_frames", interrupted)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        decode_media(clips["tone_video"], DEFAULT)
    assert time.monotonic() - start < 5


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_interrupt_at_once(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a long decode ends it, sound thread included."""
    path = tmp_path / "long.mp4"
    sound = make.Track(signals.bursts(600.0, [1.0]))
    make.write(
        path, (signals.picture(i % 50, 360, 640) for i in range(400)), fps=2 / 3, sound=sound, options={"preset": "ultrafast", "g": "400"}
    )
    code = (
        "import sys; from omnidrop_cli.media.clip import decode_media; from omnidrop_cli.config import MediaConfig\n"
        "print('go', flush=True)\n"
        "while True: decode_media(sys.argv[1], MediaConfig())"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "go\n"
        time.sleep(1.0)
        child.send_signal(signal.SIGINT)
        start = time.monotonic()
        _, errors = child.communicate(timeout=20)
        assert time.monotonic() - start < 3
        assert "KeyboardInterrupt" in errors
