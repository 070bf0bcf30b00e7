"""Rendered clips and written files show and sound what the timeline says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omnidrop_cli.config import MediaConfig
from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.media.clip import decode_media
from omnidrop_cli.nano.train.model_shape import MAX_PIXELS, MIN_PIXELS
from omnidrop_cli.nano.train.render import worn
from omnidrop_cli.nano.world import benchmark, draw, media_files, mix
from omnidrop_cli.nano.world.resample import to_length
from omnidrop_cli.nano.world.scenario import Beep, Scenario, Show, Spoken
from omnidrop_cli.nano.world.vocabulary import WORDS, Item
from omnidrop_cli.nano.world.voices import VoiceBank, synthesise, voices

needs_emoji = pytest.mark.skipif(not draw.EMOJI_FONT.exists(), reason="Noto Color Emoji is not installed")

CLIP = Scenario(
    duration_s=4.0,
    cells=(3, 3),
    has_video=True,
    has_audio=True,
    shows=(Show(Item("shape", "square", "red"), 1.0, 3.0, (0.5, 0.5), (0.5, 0.5), 1.0),),
    words=(Spoken(WORDS[3], 0.5, 1.0, 0),),
    beeps=(Beep(2.0, 2.2, 1000.0),),
    noise=0.0,
    look=12,
    needle=False,
)
NANO = MediaConfig(min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS)


def test_things_appear_when_and_where_they_should() -> None:
    frames = draw.render(CLIP).astype(int)
    assert frames.shape == (8, 3, 84, 84)
    centre, corner = frames[:, :, 42, 42], frames[:, :, 5, 5]
    red = (centre[:, 0] > 150) & (centre[:, 1] < 90)
    assert red.tolist() == [False, False, True, True, True, True, False, False]
    assert np.ptp(corner, axis=0).max() < 60, "the background stays"


def test_scale_and_rate_show_the_same_clip() -> None:
    small, large = draw.render(CLIP), draw.render(CLIP, scale=3, fps=8)
    assert large.shape == (32, 3, 252, 252)
    shrunk = large[::4].reshape(8, 3, 84, 3, 84, 3).mean((3, 5))
    assert np.abs(shrunk[2:6, :, 36:48, 36:48] - small[2:6, :, 36:48, 36:48]).mean() < 12


@needs_emoji
def test_every_picture_is_drawn_and_no_two_are_alike() -> None:
    seen = set()
    for item in draw.OBJECTS:
        sprite = np.asarray(draw._emoji(item))
        assert (sprite[..., 3] > 128).mean() > 0.08, item
        seen.add(sprite.tobytes())
    assert len(seen) == len(draw.OBJECTS)


def test_sound_is_where_it_should_be(bank: VoiceBank) -> None:
    wave = mix.render(CLIP, bank)
    assert wave.shape == (64_000,)
    assert np.abs(wave).max() <= 1
    loud = np.sqrt((wave.reshape(-1, 800) ** 2).mean(1)) > 0.01  # twentieths of a second
    assert loud[10:20].all()
    assert loud[40:44].all()
    assert not loud[:9].any()
    assert not loud[25:39].any()
    assert np.array_equal(wave, mix.render(CLIP, bank))


def test_worn_frames_stay_recognisable() -> None:
    frames = draw.render(CLIP)
    looks = [worn(frames, look) for look in range(12)]
    assert any(np.array_equal(frames, look) for look in looks)
    assert any(not np.array_equal(frames, look) for look in looks)
    assert all(np.abs(look.astype(int) - frames).mean() < 12 for look in looks)


@pytest.mark.parametrize("samples", [1000, 1600, 2500])
def test_resampling_keeps_the_tone(samples: int) -> None:
    tone = np.sin(2 * np.pi * 20 * np.arange(1600) / 1600).astype(np.float32)
    out = to_length(tone, samples)
    wanted = np.sin(2 * np.pi * 20 * np.arange(samples) / samples)
    assert out.shape == (samples,)
    assert np.abs(out - wanted)[50:-50].max() < 0.05


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_files_come_back_through_the_decoder(bank: VoiceBank, tmp_path: Path, suffix: str) -> None:
    clip = decode_media(media_files.write(CLIP, tmp_path / f"clip{suffix}", bank), NANO)
    assert clip.frames is not None
    assert clip.waveform is not None
    assert clip.frames.shape == (8, 3, 84, 84), "the nano model's own size, so nothing is scaled twice"
    assert abs(len(clip.waveform) / 16_000 - 4.0) < 0.1
    assert np.abs(clip.frames[4].astype(int) - draw.render(CLIP)[4]).mean() < 15
    assert [p.name for p in tmp_path.iterdir()] == [f"clip{suffix}"]


def test_a_clip_made_again_shows_the_same(bank: VoiceBank, tmp_path: Path) -> None:
    """A wide clip of the benchmark: its height is no multiple of 16."""
    timeline = replace(benchmark.clip_timeline("nano-06s-00"), words=())
    seen = []
    for number in range(3):
        clip = decode_media(media_files.write(timeline, tmp_path / f"{number}.mp4", bank), NANO)
        assert clip.frames is not None
        seen.append(clip.frames.tobytes())
    assert seen[0] == seen[1] == seen[2]


def test_sound_alone_is_a_wav(bank: VoiceBank, tmp_path: Path) -> None:
    only = replace(CLIP, has_video=False, shows=())
    assert media_files.suffix(only) == ".wav"
    clip = decode_media(media_files.write(only, tmp_path / "clip.wav", bank), NANO)
    assert clip.frames is None
    assert clip.waveform is not None
    assert np.abs(clip.waveform - mix.render(only, bank)).max() < 1e-3


def test_files_that_cannot_be_written_say_so(bank: VoiceBank, tmp_path: Path) -> None:
    with pytest.raises(OmnidropError, match="cannot write this clip as"):
        media_files.write(CLIP, tmp_path / "clip.wav", bank)
    with pytest.raises(OmnidropError, match="cannot write this clip as"):
        media_files.write(CLIP, tmp_path / "clip.doc", bank)
    (tmp_path / "file").write_text("")
    with pytest.raises(OmnidropError, match="cannot write the clip"):
        media_files.write(CLIP, tmp_path / "file" / "clip.mp4", bank)


def test_held_out_voices_are_never_training_voices() -> None:
    everyone = voices()
    labels = [voice.label for voice in everyone]
    assert len(labels) == len(set(labels))
    speakers = {held: {v.name.split("+")[-1] for v in everyone if v.held_out is held} for held in (True, False)}
    assert not speakers[True] & speakers[False]


def test_missing_words_are_named(tmp_path: Path) -> None:
    with pytest.raises(OmnidropError, match="not in the cache"):
        VoiceBank(tmp_path, [1])


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["espeak-ng", "flite", "festival"])
def test_real_voices_speak_every_word(tmp_path: Path, engine: str) -> None:
    import shutil

    if shutil.which(engine) is None:
        pytest.skip(f"{engine} is not installed")
    number = next(n for n, voice in enumerate(voices()) if voice.engine == engine)
    synthesise(tmp_path, [number])
    bank = VoiceBank(tmp_path, [number])
    seconds = [len(bank.word(number, word)) / 16_000 for word in WORDS]
    assert min(seconds) > 0.15
    assert max(seconds) < 1.3
