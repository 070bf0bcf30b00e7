"""Awkward clips give the right frames, seconds and warnings; `plan_clip` and `decode_media` agree on every one."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from omnidrop_cli.config import MediaConfig
from omnidrop_cli.errors import MediaError
from omnidrop_cli.media.clip import decode_media, plan_clip
from omnidrop_cli.media.probe import probe
from omnidrop_cli.outputs import Clip
from tests.media.cases import ffmpeg, write_cases
from tests.media.http_server import File, Server

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


OPEN_LISTS = ["hls/open.m3u8", "hls/live.m3u8", "hls/apart.m3u8"]


@pytest.mark.parametrize("name", ["wrap.ts", "negative.mkv", "offset.mkv", "one_damaged_stamp.flv", "long_subtitle.mkv", *OPEN_LISTS])
def test_the_whole_clip_is_there(cases: Path, name: str) -> None:
    began = time.monotonic()
    clip = opened(cases / name)
    assert time.monotonic() - began < 15  # FFmpeg would wait for new segments at each opening
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
        ("other_rate.aac", 6.1, 4.0),
        ("other_rates.aac", 9.15, 7.0),
        ("joined.wav", 4.0, 3.0),
        ("joined.aiff", 4.0, 3.0),
        ("joined.w64", 4.0, 3.0),
        ("long_packets.caf", 2.0, 1.5),
        ("adpcm.wav", 2.04, 1.5),
        ("w64.mka", 2.0, 1.5),
        ("headless.flac", 4.0, 3.0),
    ],
)
def test_lengths_are_those_of_the_packets(cases: Path, name: str, seconds: float, start_s: float) -> None:
    clip = opened(cases / name)
    assert clip.duration_s == pytest.approx(seconds, abs=0.06)
    assert not any("breaks off" in warning for warning in clip.warnings)
    assert opened(cases / name, start_s).duration_s == pytest.approx(seconds - start_s, abs=0.06)


@pytest.mark.parametrize("name", ["joined.flv", "joined.mp4", "joined.mov", "joined.mkv", "joined.avi", "joined.wmv", "cat_reset.ogv"])
def test_files_joined_by_cat_are_read_to_the_end(cases: Path, name: str) -> None:
    clip = opened(cases / name)
    assert clip.frames is not None
    assert clip.waveform is not None
    assert clip.duration_s == pytest.approx(4.0 if name.endswith("ogv") else 8.2, abs=0.2)
    half = len(clip.frames) // 2
    assert [is_bars(frame) for frame in clip.frames] == [False] * half + [True] * half
    assert np.abs(clip.waveform.reshape(-1)[: len(clip.waveform) // 16 * 16].reshape(16, -1)).mean(axis=1).min() > 0.005  # nowhere silent
    later = opened(cases / name, clip.duration_s * 0.6)
    assert later.frames is not None
    assert all(is_bars(frame) for frame in later.frames)
    if name in ("joined.flv", "joined.mp4", "joined.mov", "joined.wmv"):
        assert "this file is 2 files one behind the other: all are used" in clip.warnings


def test_three_joined_files(cases: Path) -> None:
    clip = opened(cases / "three.flv")
    assert clip.frames is not None
    assert [is_bars(frame) for frame in clip.frames] == [False] * 8 + [True] * 8 + [False] * 8


def test_a_damaged_part_does_not_take_the_others_along(cases: Path) -> None:
    clip = opened(cases / "damaged_part.flv")
    assert clip.duration_s == pytest.approx(4.1, abs=0.1)
    assert any("damaged" in warning for warning in clip.warnings)


def test_a_list_of_files_that_are_not_there_is_said(cases: Path) -> None:
    with pytest.raises(MediaError, match="cannot be read") as caught:
        plan_clip(cases / "hls" / "gone.m3u8", SMALL)
    assert "playlist names" in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["itself", "nested"])
def test_a_list_of_lists_of_lists_is_refused(cases: Path, name: str) -> None:
    """FFmpeg follows a list that names itself until the memory is full."""
    with pytest.raises(MediaError, match="a playlist of playlists names another such one"):
        plan_clip(cases / "hls" / f"{name}.m3u8", SMALL)


def test_channels_that_cancel_out_are_said(cases: Path) -> None:
    assert any("cancel each other out" in warning for warning in opened(cases / "opposite.wav").warnings)
    assert not any("cancel" in warning for warning in opened(cases / "joined.wav").warnings)


@pytest.mark.parametrize("name", ["other_rate.ogg", "other_rate.oga", "other_rate.aac"])
def test_a_rate_that_changes_keeps_the_pitch(cases: Path, name: str) -> None:
    waveform = opened(cases / name).waveform
    assert waveform is not None
    assert loudest_hertz(waveform[8_000:40_000]) == pytest.approx(440, abs=2)
    assert loudest_hertz(waveform[56_000:88_000]) == pytest.approx(880, abs=2)


def test_a_cut_wav_is_said(cases: Path) -> None:
    assert any("breaks off at 1.0 s of 2.0 s" in warning for warning in opened(cases / "cut.wav").warnings)


@pytest.mark.parametrize("kind", ["minutes", "millennia"])
def test_a_damaged_rate_does_not_spread_pictures_over_hours(cases: Path, kind: str) -> None:
    plain, clip, silent = opened(cases / "rate.avi"), opened(cases / f"rate_{kind}.avi"), opened(cases / f"silent_rate_{kind}.avi")
    assert clip.frames is not None
    assert plain.frames is not None
    assert clip.frame_times_s == pytest.approx(plain.frame_times_s, abs=0.08)
    assert np.abs(clip.frames.astype(int) - plain.frames).mean() < 12, "no frame is more than one from its place"
    assert clip.duration_s == pytest.approx(plain.duration_s, abs=0.1)
    assert silent.duration_s == pytest.approx(4.0, abs=0.1)  # 100 pictures, 25 a second
    for damaged in (clip, silent):
        assert any("the header is damaged" in warning for warning in damaged.warnings)


@pytest.mark.parametrize("name", ["slow.mp4", "slow_fragments.mp4"])
def test_a_length_that_the_pictures_overrun_by_far_is_damage(cases: Path, name: str) -> None:
    clip = opened(cases / name)
    assert clip.duration_s == pytest.approx(4.1, abs=0.2)
    assert any("the header is damaged" in warning for warning in clip.warnings)


@pytest.mark.parametrize(
    ("name", "plain", "rate"),
    [("fast_video.mp4", "av.mp4", "2"), ("rate_half.avi", "rate.avi", "2"), ("rate_slides.avi", "rate.avi", "0.004")],
)
def test_pictures_whose_clock_is_not_that_of_the_audio_are_placed_by_it(cases: Path, name: str, plain: str, rate: str) -> None:
    expected, clip = opened(cases / plain), opened(cases / name)
    assert clip.frames is not None
    assert expected.frames is not None
    assert clip.frame_times_s == pytest.approx(expected.frame_times_s, abs=0.08)
    assert np.abs(clip.frames.astype(int) - expected.frames).mean() < 12, "no frame is more than one from its place"
    assert any(f"the pictures run {rate} times as fast as the audio next to them" in warning for warning in clip.warnings)
    assert not any("next to them" in warning for warning in expected.warnings)


def test_audio_that_its_time_stamps_pile_up_is_said(cases: Path) -> None:
    assert any("1.9 s of the audio lie on the rest" in warning for warning in opened(cases / "fast_audio.mp4").warnings)


@pytest.mark.parametrize(("name", "seconds"), [("silent_rate_slides.avi", 1000), ("kiosk.mp4", 3600)])
def test_slides_that_stay_for_minutes_may_be_meant(cases: Path, name: str, seconds: float) -> None:
    clip = opened(cases / name)
    assert clip.duration_s == pytest.approx(seconds, rel=0.02)
    assert not any("header" in warning for warning in clip.warnings)


def same(frames: np.ndarray, others: np.ndarray) -> bool:
    """Whether pictures are equal but for compression: neighbours of the test pattern differ by more than 4."""
    return frames.shape == others.shape and bool((np.abs(frames.astype(int) - others).mean(axis=(1, 2, 3)) < 0.5).all())


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("left_out.mp4", [(0, 1), (3, 4)]),
        ("twice.mp4", [(0, 2), (0, 2)]),
        ("halves_swapped.mp4", [(2, 4), (0, 2)]),
        ("late_start.mp4", [(1.36, 3.36)]),
    ],
)
def test_an_edit_list_is_followed(cases: Path, name: str, pieces: list[tuple[float, float]]) -> None:
    clip = opened(cases / name)
    begins = np.cumsum([0.0, *(end_s - start_s for start_s, end_s in pieces)])
    assert clip.duration_s == pytest.approx(begins[-1], abs=0.06)
    assert clip.frame_times_s is not None
    assert clip.frame_times_s[0] == pytest.approx(0.0, abs=1e-3)
    assert not any("clock" in warning for warning in clip.warnings)
    for (start_s, end_s), at_s in zip(pieces, begins, strict=False):
        options = {"min_pixels": 112 * 112, "max_pixels": 112 * 112, "fps": 25.0}
        wanted = decode_media(cases / "av.mp4", MediaConfig(start_s=start_s, end_s=end_s - 0.1, **options))  # type: ignore[arg-type]
        found = decode_media(cases / name, MediaConfig(start_s=at_s, end_s=at_s + end_s - start_s - 0.1, **options))  # type: ignore[arg-type]
        assert wanted.frames is not None
        assert found.frames is not None
        assert wanted.waveform is not None
        assert found.waveform is not None
        assert same(found.frames, wanted.frames)
        here, there = found.waveform[2_000:20_000], wanted.waveform[2_000:20_000]
        lag = int(np.argmax(np.correlate(there, here[400:-400], "valid"))) - 400
        assert abs(lag) <= 0.05 * 16_000


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_exif_says(cases: Path, orientation: int) -> None:
    """EXIF 2.3, 4.6.4: 2 mirrored, 3 half a turn, 4 upside down and mirrored, 5 to 8 the same on their side."""
    plain, turned = opened(cases / "photo.jpg").frames, opened(cases / f"photo_{orientation}.jpg").frames
    assert plain is not None
    assert turned is not None
    mirrored = plain[..., ::-1] if orientation in (2, 4, 5, 7) else plain
    quarters = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}[orientation]
    assert same(turned, np.rot90(mirrored, quarters, axes=(2, 3)))


@pytest.mark.parametrize(
    ("name", "size", "corners"),
    [("plain", (200, 180), "RG/BW"), ("turned", (180, 200), "BR/WG"), ("both", (180, 200), "RB/GW"), ("mirrored", (200, 180), "GR/WB")],
)
def test_a_photo_in_tiles_is_put_together(cases: Path, name: str, size: tuple[int, int], corners: str) -> None:
    clip = opened(cases / f"{name}.heic")
    video = clip.source.video
    assert clip.frames is not None
    assert video is not None
    assert (clip.source.container, video.width, video.height) == ("heif", *size)
    colours = {(True, False, False): "R", (False, True, False): "G", (False, False, True): "B", (True, True, True): "W"}
    _, height, width = clip.frames[0].shape
    rows = ([colours[tuple(clip.frames[0, :, y, x] > 127)] for x in (10, width - 10)] for y in (10, height - 10))
    assert "/".join(map("".join, rows)) == corners


@pytest.mark.parametrize(
    ("name", "words"), [("too_few_tiles", "300 x 180 pixels in 4 tiles of 128 x 128"), ("no_size", "a tile of the picture has no size")]
)
def test_tiles_that_make_no_picture(cases: Path, name: str, words: str) -> None:
    """FFmpeg never comes back from opening a grid with a tile of no size."""
    with pytest.raises(MediaError, match=words):
        opened(cases / f"{name}.heic")


def test_a_box_that_is_larger_than_files_can_be(cases: Path) -> None:
    assert opened(cases / "far_box.mp4").duration_s == pytest.approx(4.0, abs=0.1)
    with pytest.raises(MediaError):
        opened(cases / "far_box_first.mp4")


def test_a_name_is_no_pattern(cases: Path) -> None:
    plain, named = opened(cases / "photo.jpg").frames, opened(cases / "pattern" / "photo%d.jpg").frames
    assert plain is not None
    assert named is not None
    assert same(named, plain)


def test_what_is_transparent_is_white(cases: Path) -> None:
    frames = opened(cases / "half_transparent.png").frames
    assert frames is not None
    assert frames[0, :, :, :50].min() > 250
    assert frames[0, 0].min() > 250
    assert frames[0, 1:, :, -50:].max() < 5


def test_the_last_picture_of_a_gif_stays(cases: Path) -> None:
    assert opened(cases / "uneven.gif").duration_s == pytest.approx(5.5, abs=0.01)


def test_a_format_without_key_flags_is_decoded(cases: Path) -> None:
    frames = opened(cases / "no_key_flags.swf").frames
    assert frames is not None
    assert len(frames) == 4
    assert not same(frames[:1], frames[-1:])


def test_a_poster_is_not_the_video(cases: Path) -> None:
    clip = opened(cases / "poster.mp4")
    assert clip.frames is not None
    assert len(clip.frames) == 4
    assert not is_bars(clip.frames[0])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("all_foreign.mp4", "the video track has a codec that FFmpeg cannot decode; the audio track has a codec"),
        ("moving.webp", "animated WebP"),
        ("only_subtitles.mkv", "no video and no audio track in this"),
    ],
)
def test_what_cannot_be_decoded_is_not_called_damaged(cases: Path, name: str, words: str) -> None:
    with pytest.raises(MediaError, match=words) as caught:
        opened(cases / name)
    assert "damaged" not in (caught.value.hint or "")


def test_one_track_of_a_foreign_codec(cases: Path) -> None:
    clip = opened(cases / "foreign.mp4")
    assert (clip.has_video, clip.has_audio) == (False, True)
    assert clip.warnings == ("the video track has a codec that FFmpeg cannot decode",)


def test_mirrored_matrices(cases: Path) -> None:
    plain, left, top = (opened(cases / name).frames for name in ("av.mp4", "matrix_hflip.mp4", "matrix_vflip.mp4"))
    assert plain is not None
    assert np.array_equal(left, plain[:, :, :, ::-1])  # type: ignore[arg-type]
    assert np.array_equal(top, plain[:, :, ::-1])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["av_no_size.mp4", "silent_no_size.mp4"])
def test_a_header_without_a_size_is_not_believed(cases: Path, name: str) -> None:
    frames = opened(cases / name).frames
    assert frames is not None
    assert frames.shape == (8, 3, 112, 112)


def test_a_picture_without_a_size_is_a_damaged_track(cases: Path) -> None:
    clip = opened(cases / "av_no_picture.mp4")
    assert (clip.frames, clip.has_audio) == (None, True)
    assert [warning for warning in clip.warnings if "video" in warning] == ["the video track is damaged: nothing in it can be decoded"]
    with pytest.raises(MediaError, match="the video track cannot be decoded"):
        opened(cases / "silent_no_picture.mp4")


def test_pixels_that_are_not_square(cases: Path) -> None:
    frames = decode_media(cases / "anamorphic.mp4", MediaConfig()).frames
    assert frames is not None
    assert frames.shape[3] == 2 * frames.shape[2]


@pytest.mark.parametrize(("stated", "meant"), [("10:1", 10.0), ("1:10", 0.1), ("21:2", 1.0), ("2:21", 1.0)])
def test_pixels_more_than_ten_times_as_wide_as_high_are_a_damaged_header(cases: Path, tmp_path: Path, stated: str, meant: float) -> None:
    ffmpeg("-i", cases / "silent.mp4", "-c", "copy", "-aspect", stated, tmp_path / "a.mkv")  # 112 x 112 pixels
    video = probe(tmp_path / "a.mkv").video
    assert video is not None
    assert video.pixel_aspect == pytest.approx(meant)


@pytest.mark.parametrize("name", ["slides.mp4", "live.webm"])
def test_slides_are_all_shown_and_held(cases: Path, name: str) -> None:
    clip = opened(cases / name)
    assert clip.frames is not None
    assert clip.frame_times_s is not None
    assert len(clip.frames) == 40
    steps = np.abs(np.diff(clip.frames.astype(int), axis=0)).mean(axis=(1, 2, 3)) > 1
    assert np.flatnonzero(steps).tolist() == [1, 3, 5, 19]  # at 1, 2, 3 and 10 s
    assert clip.frame_times_s[-1] == pytest.approx(19.5, abs=0.05)


@pytest.mark.parametrize(("name", "changes"), [("three_slides.mp4", [0, 7]), ("two_slides.mp4", [9])])
def test_a_few_slides_are_all_shown_and_held(cases: Path, name: str, changes: list[int]) -> None:
    clip = opened(cases / name)
    assert clip.frames is not None
    assert clip.duration_s == pytest.approx(8.0, abs=0.1)
    assert len(clip.frames) == 16
    steps = np.abs(np.diff(clip.frames.astype(int), axis=0)).mean(axis=(1, 2, 3)) > 1
    assert np.flatnonzero(steps).tolist() == changes  # at 0.4 and 4 s; at 5 s
    assert not clip.warnings


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


@pytest.mark.parametrize("end", ["#EXT-X-ENDLIST\n", ""], ids=["complete", "open"])
@pytest.mark.parametrize("inside", [True, False], ids=["in a list of lists", "itself"])
def test_a_playlist_never_reaches_the_network(tmp_path: Path, end: str, inside: bool) -> None:
    server = Server()
    try:
        server.files["/x.ts"] = File("video/mp2t", b"G" * 188 * 10)
        listed = tmp_path / "listed.m3u8"
        listed.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\n{server.url('/x.ts')}\n{end}")
        (tmp_path / "master.m3u8").write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\nlisted.m3u8\n")
        with pytest.raises(MediaError):
            plan_clip(tmp_path / "master.m3u8" if inside else listed, SMALL)
    finally:
        server.close()
    assert not server.hits
