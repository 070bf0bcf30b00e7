"""Arithmetic of frames and sizes, held against Qwen's published rules and against its own properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.config import MediaConfig
from omnidrop_cli.errors import MediaError
from omnidrop_cli.media.frame_choice import choose_frames, frame_count, frame_size, frames_on_display, sample_times
from omnidrop_cli.outputs import VideoStream
from omnidrop_cli.prompt.counts import count_audio_tokens, count_mel_frames, count_video_tokens
from tests.media.tracks import packets, timeline

PAPER = MediaConfig(min_pixels=128 * 28 * 28, max_pixels=128 * 28 * 28)
NANO = MediaConfig(min_pixels=112 * 112, max_pixels=112 * 112)


def smart_nframes(total_frames: int, video_fps: float, fps: float = 2.0) -> int:
    """The published rule, written out (qwen-omni-utils 0.0.9)."""
    high = min(768, total_frames) // 2 * 2
    return int(min(max(total_frames / video_fps * fps, 4), high, total_frames) // 2 * 2)


@pytest.mark.parametrize("source_fps", [7, 10, 23.976, 25, 30_000 / 1001, 30, 60])
@pytest.mark.parametrize("total", [4, 5, 30, 59, 60, 301, 1800, 18_000, 200_000])
def test_frame_count_is_qwens(total: int, source_fps: float) -> None:
    assert frame_count(total / source_fps, source_fps, MediaConfig()) == smart_nframes(total, source_fps)


@pytest.mark.parametrize(
    ("duration_s", "source_fps", "count"), [(60, 30, 120), (5.3, 10, 10), (0.3, 10, 2), (0.04, 25, 2), (12, 0.5, 6), (3600, 30, 768)]
)
def test_frame_count_examples(duration_s: float, source_fps: float, count: int) -> None:
    assert frame_count(duration_s, source_fps, MediaConfig()) == count


@given(st.floats(0.01, 1e4), st.floats(0.1, 120), st.floats(0.1, 30), st.integers(2, 800), st.integers(2, 2000))
def test_frame_count_is_even_and_bounded(duration_s: float, source_fps: float, fps: float, low: int, high: int) -> None:
    low, high = sorted((low, high))
    options = MediaConfig(fps=fps, min_frames=low, max_frames=high)
    count = frame_count(duration_s, source_fps, options)
    assert count % 2 == 0
    assert 2 <= count <= max(2, high, min(low, high))
    assert count <= max(2, round(duration_s * source_fps))


def test_frame_size_of_the_papers() -> None:
    assert frame_size(720, 1280, 120, PAPER) == (252, 448)
    assert frame_size(720, 1280, 120, MediaConfig()) == (252, 448)
    assert frame_size(1280, 720, 120, PAPER) == (448, 252)
    height, width = frame_size(480, 640, 120, PAPER)
    assert height // 28 * (width // 28) in (130, 140)


def test_frame_size_equals_the_two_stock_steps() -> None:
    """`fetch_video` then the processor, both written out, over many shapes."""

    def smart_resize(h: int, w: int, least: float, most: float) -> tuple[int, int]:
        a, b = max(28, round(h / 28) * 28), max(28, round(w / 28) * 28)
        if a * b > most:
            beta = math.sqrt(h * w / most)
            return max(28, math.floor(h / beta / 28) * 28), max(28, math.floor(w / beta / 28) * 28)
        if a * b < least:
            beta = math.sqrt(least / (h * w))
            return math.ceil(h * beta / 28) * 28, math.ceil(w * beta / 28) * 28
        return a, b

    rng = np.random.default_rng(0)
    for _ in range(2000):
        h, w = (int(x) for x in np.exp(rng.uniform(3, 8, 2)))
        frames, low, high = int(rng.integers(1, 385)) * 2, *sorted(int(x) * 784 for x in rng.integers(4, 900, 2))
        if max(h, w) > 200 * min(h, w):
            continue
        cap = min(high, max(min(768 * 784, 128_000 * 784 * 0.9 / frames * 2), int(low * 1.05)))
        low = min(low, cap)  # type: ignore[assignment]
        expected = smart_resize(*smart_resize(h, w, low, cap), low, max(768 * 784, cap))
        assert frame_size(h, w, frames, MediaConfig(min_pixels=int(low), max_pixels=high)) == expected


def test_bounds_of_frame_size_are_included() -> None:
    assert frame_size(250, 450, 2, MediaConfig()) == (252, 448), "144 tokens, as many as there may be"
    assert frame_size(5 * 28, 29 * 28, 2, MediaConfig()) == (140, 840), "145 are too many; the second step scales up again"
    assert frame_size(1, 1, 2, NANO) == (112, 112)
    assert frame_size(924, 1232, 768, MediaConfig(max_pixels=900 * 784)) == (392, 560), "300 tokens a pair of frames"


@given(st.integers(16, 4000), st.integers(16, 4000), st.integers(1, 384))
def test_frame_size_is_in_whole_tokens(height: int, width: int, pairs: int) -> None:
    if max(height, width) > 200 * min(height, width):
        return
    h, w = frame_size(height, width, pairs * 2, NANO)
    assert h % 28 == 0 == w % 28
    assert h >= 28
    assert w >= 28


def test_many_frames_share_a_budget() -> None:
    large = MediaConfig(max_pixels=768 * 784)
    few, many = frame_size(1080, 1920, 60, large), frame_size(1080, 1920, 768, large)
    assert few[0] * few[1] > many[0] * many[1]
    assert count_video_tokens(768, *many) <= 128_000 * 0.9


def test_ribbons_are_refused() -> None:
    with pytest.raises(MediaError, match="0 x 0"):
        frame_size(0, 0, 4, MediaConfig())
    with pytest.raises(MediaError, match="too narrow"):
        frame_size(10, 4000, 4, MediaConfig())
    with pytest.raises(MediaError, match="4001 x 20 pixels is too narrow"):
        frame_size(20, 4001, 4, MediaConfig())
    assert frame_size(20, 4000, 4, MediaConfig())[1] > 100 * frame_size(20, 4000, 4, MediaConfig())[0]


@given(st.integers(1, 400), st.floats(1, 60))
def test_constant_rate_gives_the_nearest_frame(total: int, fps: float) -> None:
    """At a constant rate a moment's frame is the nearest one, as `linspace(...).round()` picks it in qwen-omni-utils."""
    times = np.arange(total) / fps
    moments = sample_times(times[0], times[-1], 8)
    chosen = frames_on_display(times, moments, 0.5 / fps)
    assert np.all(np.diff(chosen) >= 0)
    assert chosen[0] == 0
    assert chosen[-1] == total - 1
    assert np.all(np.abs(times[chosen] - moments) <= 0.5 / fps + 1e-9)


def test_a_picture_that_stays_stands_for_its_time() -> None:
    times = np.array([*np.arange(0, 1, 0.1), 5.0, 5.1])
    assert frames_on_display(times, np.array([0.5, 3.0, 4.9, 5.0]), 0.05).tolist() == [5, 9, 9, 10]


def test_audio_tokens_are_25_a_second() -> None:
    for seconds, tokens in ((60, 1500), (2, 50), (0, 0)):
        assert count_audio_tokens(count_mel_frames(16_000 * seconds)) == tokens


@given(height=st.integers(30, 4000), width=st.integers(30, 4000), most=st.integers(784, 200_000))
def test_a_users_upper_bound_holds(height: int, width: int, most: int) -> None:
    """Also below the model's own lower bound, to which the stock pipeline would scale up again."""
    for model in ((4704, 7056), (100_352, 112_896)):
        options = MediaConfig(max_pixels=most).with_bounds(*model)
        h, w = frame_size(height, width, 60, options)
        assert h * w <= most or 28 in (h, w) or model[0] <= most, "a side never vanishes; the published bounds are the published sizes"


FILM = VideoStream("", 320, 180, 8.0, None)


def test_a_part_begins_and_ends_with_its_seconds() -> None:
    track = timeline(packets([n * 0.125 for n in range(32)], length_s=0.125)).video
    assert track is not None
    assert choose_frames(track, FILM, MediaConfig(start_s=4.0)) is None
    found = choose_frames(track, FILM, MediaConfig(start_s=2.0))
    assert found is not None
    assert (found.packets[0], found.packets[-1], found.end_s, found.fps, found.warnings) == (16, 31, 4.0, 2.0, ())
    assert found.times_s.tolist() == [track.times_s[n] for n in found.packets]


def test_a_frame_is_reported_at_its_own_time_unless_it_has_stayed_for_longer_than_a_frame() -> None:
    times = [n * 0.125 + (0.09375 if n == 16 else 0) for n in range(31) if n not in (10, 17, 18)]
    track = timeline(packets(times, length_s=0.125)).video
    assert track is not None
    found = choose_frames(track, FILM, MediaConfig(fps=4.2))  # the moments are whole quarters
    assert found is not None
    expected = [n * 0.25 for n in range(16)]
    expected[5] = 1.125  # the frame of 1.25 s is missing
    expected[8] = 1.875  # nor is there one of 2 s; that of 2.25 s is a frame and a quarter old
    assert found.times_s.tolist() == expected
    assert [times[n] for n in found.packets] == [2.09375 if n == 9 else time for n, time in enumerate(expected)]


def test_a_part_in_which_the_video_begins_late_is_filled_in_from_its_start() -> None:
    track = timeline(
        packets([3.0 + n * 0.125 for n in range(32)], length_s=0.125), packets([n * 0.5 for n in range(20)], length_s=0.5)
    ).video
    assert track is not None
    found = choose_frames(track, FILM, MediaConfig(start_s=1.0))
    assert found is not None
    assert (len(found.packets), found.fps, found.times_s[0], found.end_s) == (12, 2.0, 1.0, 7.0)
    assert found.warnings == ("the video begins 2.0 s after the audio; its first frame stands for that time",)


@pytest.mark.parametrize(("late_s", "filled"), [(0.0, False), (0.2, False), (0.25, False), (0.3, True), (1.0, True)])
def test_a_video_that_begins_late_is_filled_in_before_it(late_s: float, filled: bool) -> None:
    """By its first frame, which then stands for that time as well."""
    track = timeline(
        packets([late_s + n * 0.1 for n in range(40)], length_s=0.1), packets([n * 0.1 for n in range(50)], length_s=0.1)
    ).video
    assert track is not None
    found = choose_frames(track, VideoStream("", 320, 180, 10.0, None), MediaConfig(fps=2.0))
    assert found is not None
    seconds = 4.0 + late_s * filled
    assert len(found.packets) == frame_count(seconds, 40 / 4.0, MediaConfig(fps=2.0))
    assert found.fps == pytest.approx(len(found.packets) / seconds)
    assert found.end_s == pytest.approx(late_s + 4.0)
    assert bool(found.warnings) == filled
    assert found.packets[0] == 0
    assert found.packets[-1] == 39
    assert found.times_s[0] == pytest.approx(0.0 if filled else late_s)
    assert (np.diff(found.times_s) > 0).all()
