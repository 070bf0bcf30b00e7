"""Awkward clips give the right frames, seconds and warnings; `plan_clip` and `decode_media` agree on every one."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from omnidrop_cli.config import MediaConfig
from omnidrop_cli.errors import MediaError
from omnidrop_cli.media.clip import decode_media, plan_clip
from omnidrop_cli.outputs import Clip
from tests.media.cases import write_cases

SMALL = MediaConfig(min_pixels=112 * 112, max_pixels=112 * 112)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    write_cases(folder)
    return folder


def opened(path: Path, start_s: float = 0.0) -> Clip:
    """The decoded clip, after a check that it is what the plan said."""
    options = MediaConfig(start_s=start_s, min_pixels=112 * 112, max_pixels=112 * 112)
    plan, clip = plan_clip(path, options), decode_media(path, options)
    assert (0 if clip.frames is None else len(clip.frames)) == (0 if plan.frames is None else len(plan.frames.packets))
    assert (0 if clip.waveform is None else len(clip.waveform)) == plan.samples
    assert clip.duration_s == plan.duration_s
    return clip


def is_bars(frame: np.ndarray) -> bool:
    """SMPTE bars are equal along the columns of their upper half; the test pattern is not."""
    rows = frame[:, 10:50].astype(int)
    return bool(np.abs(rows - rows[:, :1]).mean() < 12)


def loudest_hertz(samples: np.ndarray) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples))))) * 16_000 / len(samples))


@pytest.mark.parametrize("name", ["cat_reset.ts", "jump.ts", "jump.mkv", "jump.mp4", "jump.flv", "cat_reset.mpg"])
def test_a_broken_clock_is_closed_for_both_tracks(cases: Path, name: str) -> None:
    clip = opened(cases / name)
    assert clip.duration_s == pytest.approx(8.1, abs=0.2)
    assert clip.frames is not None
    assert clip.waveform is not None
    assert len(clip.frames) == 16
    assert [is_bars(frame) for frame in clip.frames] == [False] * 8 + [True] * 8
    assert len(clip.waveform) / 16_000 == pytest.approx(8.1, abs=0.2)
    assert np.abs(clip.waveform.reshape(-1, len(clip.waveform) // 16)[:16]).mean(axis=1).min() > 0.005  # nowhere silent
    word = "jumps ahead by 59" if name.startswith("jump") else "starts again at 4"
    assert any(word in warning for warning in clip.warnings)
    later = opened(cases / name, 5.0)
    assert later.frames is not None
    assert all(is_bars(frame) for frame in later.frames)
    assert later.duration_s == pytest.approx(3.1, abs=0.2)


@pytest.mark.parametrize("name", ["wrap.ts", "negative.mkv", "offset.mkv", "one_damaged_stamp.flv", "long_subtitle.mkv", "hls/open.m3u8"])
def test_the_whole_clip_is_there(cases: Path, name: str) -> None:
    began = time.monotonic()
    clip = opened(cases / name)
    assert time.monotonic() - began < 15
    assert clip.frames is not None
    assert clip.frame_times_s is not None
    assert (len(clip.frames), clip.has_audio) == (8, True)
    assert clip.duration_s == pytest.approx(4.05, abs=0.1)
    assert clip.frame_times_s[0] < 0.1
    assert not any("breaks off" in warning for warning in clip.warnings)
    assert any("still open" in warning for warning in clip.warnings) == name.endswith("m3u8")


@pytest.mark.parametrize(
    ("name", "seconds", "start_s"),
    [
        ("unfinished.wav", 2.0, 1.5),
        ("quiet_first.aac", 20.04, 12.0),
        ("chained.opus", 6.0, 4.0),
        ("other_rate.ogg", 6.0, 4.0),
        ("other_rate.oga", 6.0, 4.0),
        ("live.webm", 20.04, 15.0),
        ("cat_reset.ogv", 4.0, 3.0),
    ],
)
def test_lengths_are_those_of_the_packets(cases: Path, name: str, seconds: float, start_s: float) -> None:
    clip = opened(cases / name)
    assert clip.duration_s == pytest.approx(seconds, abs=0.06)
    assert not any("breaks off" in warning for warning in clip.warnings)
    assert opened(cases / name, start_s).duration_s == pytest.approx(seconds - start_s, abs=0.06)


@pytest.mark.parametrize("name", ["other_rate.ogg", "other_rate.oga"])
def test_a_rate_that_changes_keeps_the_pitch(cases: Path, name: str) -> None:
    waveform = opened(cases / name).waveform
    assert waveform is not None
    assert loudest_hertz(waveform[8_000:40_000]) == pytest.approx(440, abs=2)
    assert loudest_hertz(waveform[56_000:88_000]) == pytest.approx(880, abs=2)


def test_a_cut_wav_is_said(cases: Path) -> None:
    assert any("breaks off at 1.0 s of 2.0 s" in warning for warning in opened(cases / "cut.wav").warnings)


def test_mirrored_matrices(cases: Path) -> None:
    plain, left, top = (opened(cases / name).frames for name in ("av.mp4", "matrix_hflip.mp4", "matrix_vflip.mp4"))
    assert plain is not None
    assert np.array_equal(left, plain[:, :, :, ::-1])  # type: ignore[arg-type]
    assert np.array_equal(top, plain[:, :, ::-1])  # type: ignore[arg-type]


def test_pixels_that_are_not_square(cases: Path) -> None:
    frames = decode_media(cases / "anamorphic.mp4", MediaConfig()).frames
    assert frames is not None
    assert frames.shape[3] == 2 * frames.shape[2]


@pytest.mark.parametrize("name", ["slides.mp4", "live.webm"])
def test_slides_are_all_shown_and_held(cases: Path, name: str) -> None:
    clip = opened(cases / name)
    assert clip.frames is not None
    assert clip.frame_times_s is not None
    assert len(clip.frames) == 40
    steps = np.abs(np.diff(clip.frames.astype(int), axis=0)).mean(axis=(1, 2, 3)) > 1
    assert np.flatnonzero(steps).tolist() == [1, 3, 5, 19]  # at 1, 2, 3 and 10 s
    assert clip.frame_times_s[-1] == pytest.approx(19.5, abs=0.05)


def test_another_size_in_mid_stream_keeps_its_shape(cases: Path) -> None:
    frames = opened(cases / "size_change.ts").frames
    assert frames is not None
    square, wide = frames[4], frames[-2]
    assert square[:, :20].max() > 60
    assert wide[:, :20].max() == 0  # black bars above and below
    assert wide[:, 50:60].max() > 60


def test_what_depends_on_missing_packets_is_not_shown(cases: Path) -> None:
    track = plan_clip(cases / "no_key.ts", SMALL).scan.timeline.video
    assert track is not None
    first_key = int(np.flatnonzero(track.keyframe)[0])
    assert not track.shown[:first_key].any()
    assert track.shown[first_key]


@pytest.mark.parametrize("name", ["two_programs.ts", "two_defaults.mp4"])
def test_the_audio_belongs_to_the_video(cases: Path, name: str) -> None:
    clip = opened(cases / name)
    assert clip.waveform is not None
    assert clip.frames is not None
    assert loudest_hertz(clip.waveform[8_000:24_000]) == pytest.approx(300, abs=2)
    assert not is_bars(clip.frames[1])


def test_a_playlist_never_reaches_the_network(tmp_path: Path) -> None:
    path = tmp_path / "remote.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(MediaError):
        plan_clip(path, SMALL)
