"""Thumbnails, spectrogram, preview, overlay and contact sheet of a real clip."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from omnidrop_cli.errors import OmnidropError, UsageError
from omnidrop_cli.explain.depth import depth_map
from omnidrop_cli.explain.overlay import DARKEST, LANE_HEIGHT, darkened, overlay
from omnidrop_cli.explain.pictures import film_of, sound_of
from omnidrop_cli.explain.preview import encode_mp4, frames_of
from omnidrop_cli.explain.sheet import sheet
from omnidrop_cli.outputs import Comparison, Modality, Report
from omnidrop_cli.report.json import from_dict, to_dict
from tests.explain.scenes import DEMO, demo_clip, demo_report
from tests.report import samples


def decoded(content: bytes) -> tuple[list[np.ndarray], int]:
    """Frames (H, W, 3) and the number of audio samples of an MP4."""
    with av.open(io.BytesIO(content)) as container:
        frames, count = [], 0
        for packet in container.demux():
            for frame in packet.decode():
                if isinstance(frame, av.VideoFrame):
                    frames.append(frame.to_ndarray(format="rgb24"))
                else:
                    count += frame.samples
    return frames, count


def test_thumbnails_are_the_frames() -> None:
    clip = demo_clip()
    film = film_of(clip)
    assert film is not None
    assert clip.frames is not None
    assert len(film.jpegs) == len(clip.frames) // 2
    assert film.at_s[0] == 0
    picture = Image.open(io.BytesIO(film.jpegs[3]))
    assert picture.size == film.size
    frame = Image.fromarray(clip.frames[6].transpose(1, 2, 0)).resize(film.size)
    assert np.abs(np.asarray(picture.convert("RGB"), float) - np.asarray(frame, float)).mean() < 6


def test_a_long_clip_stays_small() -> None:
    clip = demo_clip()
    assert clip.frames is not None
    assert clip.frame_times_s is not None
    long = replace(clip, frames=np.tile(clip.frames, (20, 1, 1, 1)), frame_times_s=np.arange(400.0))
    film = film_of(long)
    assert film is not None
    assert film.size[0] * film.size[1] * len(film.jpegs) < 3_000_000


def test_the_spectrogram_has_low_frequencies_below() -> None:
    rate = 16_000
    tone = np.sin(2 * np.pi * 200 * np.arange(2 * rate) / rate).astype(np.float32) * 0.5
    sound = sound_of(replace(demo_clip(), waveform=tone))
    assert sound is not None
    picture = np.asarray(Image.open(io.BytesIO(sound.mel_png)))
    assert picture.shape == (64, 200)
    assert picture.mean(axis=1).argmax() > 48
    assert sound.peaks.min() == pytest.approx(-64, abs=1)
    assert sound.peaks.max() == pytest.approx(64, abs=1)


def test_a_preview_plays_as_long_as_the_clip() -> None:
    clip = demo_clip()
    content = encode_mp4(frames_of(DEMO, demo_report().job.media_options, 10.0, 4.0), 4.0, clip.waveform)
    frames, audio = decoded(content)
    assert len(frames) == 40
    assert audio / 16_000 == pytest.approx(10.0, abs=0.1)
    assert content.index(b"moov") < content.index(b"mdat")  # plays before it is whole


def test_darkening_follows_depth() -> None:
    shaded = darkened(np.full((4, 8, 3), 200, np.uint8), np.array([[1.0, 0.0]]))
    assert (shaded[:, :4] == 200).all()
    assert (shaded[:, 4:] == int(200 * DARKEST)).all()


def only_the_left_survives() -> Report:
    report = demo_report()
    tokens = report.token_map
    assert tokens is not None
    left = np.flatnonzero((tokens.modality != Modality.VIDEO) | (tokens.col < 2))
    kept = tuple(left for _ in report.trace.kept)
    return replace(report, trace=replace(report.trace, kept=kept, attention=None))


def test_the_overlay_is_dark_where_patches_were_dropped() -> None:
    frames, audio = decoded(overlay(only_the_left_survives(), demo_clip()))
    height, width = frames[0].shape[:2]
    picture = frames[len(frames) // 2][: height - LANE_HEIGHT].astype(float)
    assert picture[:, : width // 2 - 8].mean() > 3 * picture[:, width // 2 + 8 :].mean()
    assert audio / 16_000 == pytest.approx(10.0, abs=0.1)


def test_the_overlay_of_audio_alone_is_its_lane() -> None:
    tokens = samples.token_map(0, audio=250)
    clip = replace(demo_report().clip, frames=0)
    report = replace(
        demo_report(), token_map=tokens, trace=samples.nested_trace(tokens, samples.SHARE), prompt=tokens.counts(), clips=(clip,)
    )
    frames, audio = decoded(overlay(report, replace(demo_clip(), frames=None, frame_times_s=None)))
    assert frames[0].shape == (LANE_HEIGHT, 640, 3)
    assert audio


def test_the_depth_map_is_the_trace() -> None:
    report = demo_report()
    found = depth_map(report)
    assert found.patches.shape == (10, 4, 4)
    assert found.audio.shape == (250,)
    total = found.patches.sum() + found.audio.sum()
    assert total * 12 == pytest.approx(sum(counts.media for counts in report.trace.entering))


@pytest.mark.parametrize("with_film", [True, False])
def test_the_sheet_is_a_png(with_film: bool) -> None:
    drawn = Image.open(io.BytesIO(sheet(demo_report(), film_of(demo_clip()) if with_film else None)))
    assert drawn.format == "PNG"
    assert drawn.size[0] == 1280


def test_without_pillow_a_sheet_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UsageError) as caught:
        sheet(demo_report(), None)
    assert caught.value.hint == 'pip install "pillow>=10.1"'


def test_a_report_shows_itself(tmp_path: Path) -> None:
    report = from_dict(to_dict(demo_report(), kept=True))  # as saved: no model, no clip in memory
    page = report.show()
    assert "<iframe" in page._repr_html_()
    assert b"data:video/mp4" in page.content
    saved = page.save(tmp_path / "report.html")
    assert saved.read_bytes() == page.content
    assert report.show("sheet").content.startswith(b"\x89PNG")
    assert b"ftyp" in report.show("overlay").content[:16]
    assert "The quick brown fox." in report._repr_html_()


def test_a_comparison_shows_both_answers() -> None:
    full, pruned = demo_report("none"), demo_report()
    html = Comparison(full, pruned, 1.0, None, 0.0).show().content.decode()
    assert '<h3 dir="auto">full</h3>' in html


def test_several_clips_are_refused_in_one_line() -> None:
    report = samples.several_clips((6, 4, 4, 150), (0, 1, 1, 80))
    with pytest.raises(UsageError, match="shows one clip, and there are 2") as caught:
        report.show()
    assert caught.value.hint


def test_a_clip_that_is_gone_leaves_a_page_without_pictures() -> None:
    report = demo_report()
    gone = replace(report, clips=(samples.clip(path="/nowhere/talk.mp4"),))
    page = gone.show().content.decode()
    assert "<video" not in page.split("<script")[0]
    with pytest.raises(OmnidropError, match="cannot be read"):
        gone.show("overlay")
    with pytest.raises(UsageError, match="no view"):
        gone.show("cake")


def test_a_report_without_its_tokens_says_how_to_save_them() -> None:
    bare = from_dict(to_dict(demo_report()))
    with pytest.raises(UsageError, match="kept tokens"):
        bare.show("sheet")
