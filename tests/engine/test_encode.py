"""Encoders in pieces equal one stock pass, and embeddings land where the token map says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from omnidrop_cli.engine.encode import embed, encode_media
from omnidrop_cli.engine.oom import Limits
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.model.thinker import Thinker
from omnidrop_cli.outputs import EncoderInput, Modality, Prompt
from omnidrop_cli.prompt.counts import count_audio_tokens
from omnidrop_cli.prompt.layout import assemble, lay_out
from omnidrop_cli.prompt.patches import grid_of, patchify


def prompt_of(thinker: Thinker, frames: int, mel_frames: int) -> Prompt:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (frames, 3, 56, 84), dtype=np.uint8) if frames else None
    grid = grid_of(frames, 56, 84, thinker.spec) if frames else None
    audio = count_audio_tokens(mel_frames)
    block = lay_out(thinker.spec, grid_thw=grid, seconds_per_grid=1.0 if grid else None, audio_tokens=audio)
    layout = assemble(np.arange(12) + 3, np.arange(12) > 6, 4, [block])
    mel = rng.standard_normal((128, mel_frames), dtype=np.float32) if audio else None
    return Prompt(layout.input_ids, layout.positions, layout.next_position, layout.tokens, (EncoderInput(pictures, grid, 1.0, mel),), "")


@pytest.mark.parametrize(("frames", "mel_frames"), [(10, 900), (2, 300), (0, 801), (14, 0), (6, 402), (6, 401), (8, 7)])
def test_pieces_equal_one_stock_pass(frames: int, mel_frames: int) -> None:
    thinker = tiny_thinker(2)
    prompt = prompt_of(thinker, frames, mel_frames)
    limits = Limits(patches=2 * 4 * 6, windows=1)
    features = encode_media(thinker, prompt, frozenset({"audio_attention", "video_attention"}), limits=limits)
    counts = prompt.token_map.counts()
    model = thinker.model if hasattr(thinker.model, "get_video_features") else thinker.model.model  # before 5.22, and since
    with torch.inference_mode():
        if prompt.media[0].frames is not None and features.video is not None:
            patches = patchify(torch.from_numpy(prompt.media[0].frames), thinker.spec)
            stock = model.get_video_features(patches, torch.tensor([prompt.media[0].grid_thw]), return_dict=True).pooler_output
            torch.testing.assert_close(features.video, torch.cat(stock), rtol=1e-4, atol=1e-5)
            assert features.video_attention is not None
            assert len(features.video_attention) == counts.video
        if prompt.media[0].mel is not None and features.audio is not None:
            mask = torch.ones(1, mel_frames, dtype=torch.long)
            stock = model.get_audio_features(torch.from_numpy(prompt.media[0].mel)[None], mask, return_dict=True).last_hidden_state
            torch.testing.assert_close(features.audio, stock, rtol=1e-4, atol=1e-5)
            assert features.audio_attention is not None
            assert len(features.audio_attention) == counts.audio
    assert (features.video is None) == (frames == 0)
    assert (features.audio is None) == (counts.audio == 0)


def test_attention_over_the_clip_does_not_depend_on_pieces() -> None:
    thinker = tiny_thinker(2)
    prompt = prompt_of(thinker, 0, 905)
    needs = frozenset({"audio_attention_clip"})
    pieces, whole = (encode_media(thinker, prompt, needs, limits=Limits(windows=windows)) for windows in (1, 100))
    assert pieces.audio_attention_clip is not None
    assert pieces.audio_attention is not None
    assert whole.audio_attention_clip is not None
    torch.testing.assert_close(pieces.audio_attention_clip, whole.audio_attention_clip, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(pieces.audio_attention_clip, pieces.audio_attention, rtol=1e-3)
    assert pieces.attention_for(needs)[0] is pieces.audio_attention_clip
    assert pieces.attention_for(frozenset({"audio_attention"}))[0] is pieces.audio_attention


def test_embeddings_follow_the_token_map() -> None:
    thinker = tiny_thinker(2)
    prompt = prompt_of(thinker, 4, 300)
    features = encode_media(thinker, prompt)
    embeds = embed(thinker, prompt, features)[0]
    tokens = prompt.token_map
    assert torch.equal(embeds[tokens.rows(Modality.AUDIO)], features.audio)
    assert torch.equal(embeds[tokens.rows(Modality.VIDEO)], features.video)
    text = tokens.rows(Modality.TEXT)
    with torch.inference_mode():
        assert torch.equal(embeds[text], thinker.adapter.embed(torch.from_numpy(prompt.input_ids[text])))
    assert features.audio_attention is None
    assert features.video_attention is None
