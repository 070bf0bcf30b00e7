"""Several clips in one question: real files, and what the stock processor and the stock `get_rope_index` make of them."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import WhisperFeatureExtractor

from omnidrop_cli.config import MediaConfig
from omnidrop_cli.errors import PromptError
from omnidrop_cli.media.clip import decode_media
from omnidrop_cli.outputs import Modality, Prompt, TokenMap
from omnidrop_cli.prompt.build import build
from omnidrop_cli.prompt.counts import count_audio_tokens
from omnidrop_cli.prompt.patches import patchify
from omnidrop_cli.prompt.spec import PromptSpec
from tests.clips import Clips
from tests.prompt.qwen import conversation
from tests.prompt.test_build import make_clip
from tests.prompt.test_layout import stock_order

SMALL = MediaConfig(min_pixels=56 * 56, max_pixels=112 * 112)
QUESTION = "Which is said?"

SAME_KIND = [
    ("speech_video", "landscape"),  # two videos with sound, of other sizes
    ("seven_fps", "ntsc"),  # other seconds per grid
    ("sound_longer", "sound_shorter"),
    ("portrait", "mp3"),  # a video and sound alone
    ("wav_22k", "speech_video"),
    ("mp3", "flac"),  # sound alone, twice
    ("one_frame", "tiny"),  # a picture and a silent video
    ("one_frame", "one_image_gif"),  # two pictures
    ("half_fps", "wide"),  # silent videos of other rates
    ("silent_video", "ogg"),  # a silent video and sound alone
    ("speech_video", "speech_video"),
    ("webm", "m4a", "surround"),
]
MIXED = [
    ("speech_video", "silent_video"),
    ("one_frame", "speech_video"),
    ("tiny", "mp3", "landscape", "half_fps"),
]
"""The stock model takes all videos of a prompt with their sound, or none: these positions it cannot give."""


@pytest.mark.parametrize("names", SAME_KIND + MIXED)
def test_every_clip_is_read_as_the_stock_code_reads_it(names: tuple[str, ...], clips: Clips, tokenizer: Any, spec: PromptSpec) -> None:
    decoded = [decode_media(clips[name], SMALL) for name in names]
    prompt = build(decoded, QUESTION, tokenizer, spec)
    assert np.array_equal(prompt.input_ids, stock_ids(prompt, tokenizer, spec))
    sounds = [clip.waveform for clip in decoded if clip.waveform is not None]
    mels = [media.mel for media in prompt.media if media.mel is not None]
    for ours, stock in zip(mels, stock_mels(sounds), strict=True):
        np.testing.assert_allclose(ours, stock, rtol=0, atol=1e-4)
    for media, clip in zip(prompt.media, decoded, strict=True):
        assert media.frames is clip.frames


@pytest.mark.parametrize("names", SAME_KIND)
def test_positions_are_the_stock_model_s(names: tuple[str, ...], clips: Clips, tokenizer: Any, spec: PromptSpec, thinker: Any) -> None:
    prompt = build([decode_media(clips[name], SMALL) for name in names], QUESTION, tokenizer, spec)
    positions, following = stock_positions(prompt, thinker)
    assert np.array_equal(prompt.positions, positions)
    assert prompt.next_position == following


@pytest.mark.parametrize("names", SAME_KIND[:2] + MIXED)
def test_a_clip_is_laid_out_as_it_is_alone(names: tuple[str, ...], clips: Clips, tokenizer: Any, spec: PromptSpec) -> None:
    """Where the stock model has no positions for the mix: each clip's are those it has alone, one clip after the other."""
    decoded = [decode_media(clips[name], SMALL) for name in names]
    prompt = build(decoded, QUESTION, tokenizer, spec)
    assert prompt.token_map.clips == len(names)
    begin = int((prompt.token_map.modality != Modality.TEXT).argmax()) - len(_markers(prompt, 0))
    shift = 0
    for number, clip in enumerate(decoded):
        alone = build([clip], QUESTION, tokenizer, spec)
        marks = len(_markers(prompt, number))
        first = int((alone.token_map.modality != Modality.TEXT).argmax()) - marks
        last = first + alone.token_map.counts().media + 2 * marks
        block = slice(begin, begin + last - first)
        assert np.array_equal(prompt.input_ids[block], alone.input_ids[first:last])
        assert np.array_equal(prompt.positions[:, block], alone.positions[:, first:last] + shift)
        begin, shift = block.stop, shift + int(alone.positions[0, last] - alone.positions[0, first])
        own, other = prompt.token_map.alone(number), alone.token_map
        assert all(
            np.array_equal(
                getattr(own, field.name)[own.modality > 0], getattr(other, field.name)[other.modality > 0], equal_nan=field.name == "time_s"
            )
            for field in fields(TokenMap)
        )


def test_chunks_of_clips_do_not_mix(clips: Clips, tokenizer: Any, spec: PromptSpec) -> None:
    decoded = [decode_media(clips[name], SMALL) for name in ("speech_video", "mp3", "tiny")]
    tokens = build(decoded, QUESTION, tokenizer, spec).token_map
    ranges = [tokens.chunk[tokens.clip == clip] for clip in range(3)]
    assert ranges[0].min() == 0
    assert all(later.min() == earlier.max() + 1 for earlier, later in pairwise(ranges))
    assert (tokens.clip == -1).tolist() == (tokens.modality == Modality.TEXT).tolist()
    assert tokens.time_s[tokens.clip == 1].min() == 0


def test_the_stock_thinker_takes_two_clips(tokenizer: Any, spec: PromptSpec, thinker: Any) -> None:
    prompt = build([make_clip(), make_clip(6, (84, 56), 48_000, fps=1.5)], QUESTION, tokenizer, spec)
    frames = [media.frames for media in prompt.media if media.frames is not None]
    mels = [media.mel for media in prompt.media if media.mel is not None]
    longest = max(mel.shape[1] for mel in mels)
    inputs = {
        "input_ids": torch.from_numpy(prompt.input_ids)[None],
        "attention_mask": torch.ones(1, len(prompt), dtype=torch.long),
        "pixel_values_videos": torch.cat([patchify(torch.from_numpy(one), spec) for one in frames]),
        "video_grid_thw": torch.tensor([media.grid_thw for media in prompt.media]),
        "video_second_per_grid": torch.tensor([media.seconds_per_grid for media in prompt.media]),
        "input_features": torch.from_numpy(np.stack([np.pad(mel, ((0, 0), (0, longest - mel.shape[1]))) for mel in mels])),
        "feature_attention_mask": torch.tensor([[1] * mel.shape[1] + [0] * (longest - mel.shape[1]) for mel in mels]),
        "use_audio_in_video": True,
    }
    with torch.no_grad():
        own = thinker(**inputs).logits
        given = thinker(**inputs, position_ids=torch.from_numpy(prompt.positions)[:, None]).logits
    assert torch.equal(own, given)


def test_the_clip_without_anything_is_named(tokenizer: Any, spec: PromptSpec) -> None:
    with pytest.raises(PromptError, match=r"party\.mp4: nothing to look at"):
        build([make_clip(), make_clip(frames=0, samples=-1)], QUESTION, tokenizer, spec)


def _markers(prompt: Prompt, number: int) -> list[str]:
    """The markers in front of a clip."""
    media = prompt.media[number]
    return ["vision"] * (media.grid_thw is not None) + ["audio"] * (media.mel is not None)


def stock_ids(prompt: Prompt, tokenizer: Any, spec: PromptSpec) -> NDArray[np.int64]:
    """The published chat template with one item per clip, its placeholders replaced as `Qwen2_5OmniProcessor.__call__` replaces them."""
    kinds = ["audio" if media.grid_thw is None else "video" for media in prompt.media]
    chat = conversation(QUESTION, None)
    chat[-1]["content"][:0] = [{"type": kind} for kind in kinds]
    ids: list[int] = tokenizer.apply_chat_template(chat, tokenize=True, add_generation_prompt=True, return_dict=False)
    waiting, expanded = iter(prompt.media), list[int]()
    for token in ids:
        if token not in (spec.audio, spec.video):
            expanded.append(token)
            continue
        media = next(waiting)
        audio = 0 if media.mel is None else count_audio_tokens(media.mel.shape[1])
        if media.grid_thw is None:
            expanded += [spec.audio] * audio
        elif not audio:
            expanded += [spec.video] * (int(np.prod(media.grid_thw)) // 4)
        else:
            assert media.seconds_per_grid is not None
            expanded += stock_order(media.grid_thw, media.seconds_per_grid, audio).tolist()
    return np.array(expanded)


def stock_mels(sounds: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """All sounds in one call, as the processor makes it."""
    if not sounds:
        return []
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=300, n_fft=400, hop_length=160)
    out = extractor(sounds, sampling_rate=16_000, truncation=False, padding="max_length", return_attention_mask=True, return_tensors="np")
    return [mel[:, mask.astype(bool)] for mel, mask in zip(out["input_features"], out["attention_mask"], strict=True)]


def stock_positions(prompt: Prompt, thinker: Any) -> tuple[Any, int]:
    """Positions of the whole prompt and of what follows it, by the model's own method."""
    grids = [(media.grid_thw, media.seconds_per_grid, media.mel is not None) for media in prompt.media if media.grid_thw is not None]
    lengths = [media.mel.shape[1] for media in prompt.media if media.mel is not None]
    positions, delta = thinker.model.get_rope_index(
        torch.from_numpy(prompt.input_ids)[None],
        None,
        torch.tensor([grid for grid, _, _ in grids]) if grids else None,
        torch.ones(1, len(prompt), dtype=torch.long),
        any(heard for _, _, heard in grids),
        torch.tensor(lengths) if lengths else None,
        torch.tensor([seconds for _, seconds, _ in grids]) if grids else None,
    )
    return positions[:, 0].numpy(), len(prompt) + int(delta)
