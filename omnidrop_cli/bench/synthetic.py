"""A prompt in the papers' layout without a clip: 50 audio and 288 video tokens per two-second chunk, noise for the media.

The layout is that of 252x448 frames at 2 fps (OmniDrop, appendix A). Time and memory depend on token counts only, so noise serves.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from omnidrop_cli.engine.encode import MediaFeatures
from omnidrop_cli.outputs import EncoderInput, Prompt
from omnidrop_cli.prompt.layout import assemble, lay_out

if TYPE_CHECKING:
    from omnidrop_cli.model.thinker import Thinker

FRAME_HEIGHT, FRAME_WIDTH = 252, 448
PATCHES_HIGH, PATCHES_WIDE = 18, 32
MEL_FRAMES_PER_SECOND = 100
AUDIO_TOKENS_PER_SECOND = 25
SYSTEM_TOKENS, QUESTION_TOKENS, CLOSING_TOKENS = 40, 72, 8
"""120 text tokens, the count methods are compared at (question with options behind the clip)."""


def papers_prompt(thinker: Thinker, seconds: float) -> Prompt:
    """A prompt of `seconds` of video with sound: one temporal grid of 144 tokens and 25 audio tokens a second."""
    spec = thinker.spec
    grids = max(2, round(seconds))
    grid = (grids, PATCHES_HIGH, PATCHES_WIDE)
    block = lay_out(spec, grid_thw=grid, seconds_per_grid=1.0, audio_tokens=grids * AUDIO_TOKENS_PER_SECOND)
    text = SYSTEM_TOKENS + QUESTION_TOKENS + CLOSING_TOKENS
    place = np.arange(text)
    is_query = (place >= SYSTEM_TOKENS) & (place < text - CLOSING_TOKENS)
    layout = assemble(place % 200, is_query, SYSTEM_TOKENS, [block])
    return Prompt(
        input_ids=layout.input_ids,
        positions=layout.positions,
        next_position=layout.next_position,
        token_map=layout.tokens,
        media=(EncoderInput(grid_thw=grid, seconds_per_grid=1.0),),
        text="",
    )


def noise_features(thinker: Thinker, prompt: Prompt) -> MediaFeatures:
    """Random embeddings and attentions in the shapes that the encoders give."""
    counts = prompt.token_map.counts()
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(thinker.device)

    return MediaFeatures(
        audio=noise(counts.audio, thinker.sizes.hidden).to(thinker.dtype),
        video=noise(counts.video, thinker.sizes.hidden).to(thinker.dtype),
        audio_attention=noise(counts.audio).abs(),
        audio_attention_clip=noise(counts.audio).abs(),
        video_attention=noise(counts.video).abs(),
    )


def with_noise_media(thinker: Thinker, prompt: Prompt) -> Prompt:
    """`prompt` with random frames (2T, 3, H, W) and a random mel (n_mels, 100 per second) in place of its clip's, for the encoders."""
    (clip,) = prompt.media
    if clip.grid_thw is None:
        raise ValueError("only a prompt with video has frames")
    generator = np.random.default_rng(0)
    grids = clip.grid_thw[0]
    frames = thinker.spec.temporal_patch_size * grids
    noise = replace(
        clip,
        frames=generator.integers(0, 256, (frames, 3, FRAME_HEIGHT, FRAME_WIDTH), dtype=np.uint8),
        mel=generator.standard_normal((thinker.spec.n_mels, grids * MEL_FRAMES_PER_SECOND), dtype=np.float32),
    )
    return replace(prompt, media=(noise,))
