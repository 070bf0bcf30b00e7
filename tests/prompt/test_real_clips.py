"""Real files, decoded and built: ids, positions and features as the stock code gives them for the decoded clip."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from omnidrop_cli.config import MediaConfig
from omnidrop_cli.media.clip import decode_media
from omnidrop_cli.prompt.build import build
from omnidrop_cli.prompt.counts import count_audio_tokens, count_mel_frames, count_video_tokens
from omnidrop_cli.prompt.spec import PromptSpec
from tests.clips import Clips
from tests.prompt.test_layout import chunkings_agree, stock_order, stock_positions
from tests.prompt.test_mel import reference

SMALL = MediaConfig(min_pixels=56 * 56, max_pixels=112 * 112)
PICTURES = ["silent_video", "tiny", "wide", "half_fps", "one_frame", "rotated_180"]
SOUNDS = ["mp3", "wav_22k", "cover_mp3", "long_audio"]
BOTH = ["speech_video", "portrait", "landscape", "odd_duration", "ntsc", "seven_fps", "short", "sound_longer", "sound_shorter"]
BOTH += ["delayed_audio", "delayed_video", "surround", "rotated", "webm"]
ALL = [(name, SMALL) for name in PICTURES + SOUNDS + BOTH]
PARTS = [(name, replace(SMALL, **{flag: False})) for name in ("odd_duration", "ntsc") for flag in ("use_audio", "use_video")]


@pytest.mark.parametrize(("name", "options"), ALL + PARTS)
def test_built_as_the_stock_code_would(name: str, options: MediaConfig, clips: Clips, tokenizer: Any, spec: PromptSpec) -> None:
    clip = decode_media(clips[name], options)
    prompt = build([clip], "What is said?", tokenizer, spec)
    counts, mel_frames = prompt.token_map.counts(), 0 if prompt.media[0].mel is None else prompt.media[0].mel.shape[1]

    assert counts.audio == count_audio_tokens(mel_frames)
    if clip.waveform is not None:
        assert mel_frames == count_mel_frames(len(clip.waveform))
        assert prompt.media[0].mel is not None
        np.testing.assert_allclose(prompt.media[0].mel, reference(clip.waveform), rtol=0, atol=1e-4)
    if clip.frames is not None:
        assert prompt.media[0].frames is clip.frames
        assert counts.video == count_video_tokens(len(clip.frames), *clip.frames.shape[-2:])
    if prompt.media[0].grid_thw is not None and prompt.media[0].seconds_per_grid is not None:
        if not chunkings_agree(prompt.media[0].grid_thw[0], prompt.media[0].seconds_per_grid):
            pytest.skip("the stock processor and model disagree about this rate")
        if counts.audio:
            begin = prompt.input_ids.tolist().index(spec.audio_bos)
            order = stock_order(prompt.media[0].grid_thw, prompt.media[0].seconds_per_grid, counts.audio)
            assert np.array_equal(prompt.input_ids[begin : begin + len(order)], order)
    positions, following = stock_positions(prompt.input_ids, prompt.media[0].grid_thw, prompt.media[0].seconds_per_grid, mel_frames)
    assert np.array_equal(prompt.positions, positions)
    assert prompt.next_position == following
