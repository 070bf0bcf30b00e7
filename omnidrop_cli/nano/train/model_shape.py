"""The nano model's configuration: the real thinker classes, small sizes, and the initial values that let binding form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from omnidrop_cli.nano.train.train_tokenizer import SPECIAL

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2_5OmniThinkerForConditionalGeneration

MIN_PIXELS = 6 * 28 * 28
MAX_PIXELS = 9 * 28 * 28
"""Frames of six to nine tokens: 84 x 84, 56 x 112."""

SLOW = 0.01
"""Radians a position: pairs below this turn by less than a quarter circle over six seconds."""

KEY_BIAS = 1.5
"""Size of the keys' constant part per frequency pair: small, since the matching head shares the key."""


@dataclass(frozen=True, slots=True)
class Near:
    """Where a head looks at first: `distance` positions back, through the rotary pairs `pairs` (all of time), so sharply."""

    distance: float
    pairs: tuple[int, ...]
    sharpness: float
    copying: float


TOKEN_BEFORE = Near(1.0, (0, 3, 4), 8.0, 0.7)
SAME_SECOND = Near(12.0, (4, 5, 8), 8.0, 1.0)
"""A picture's tokens stand at the start of their second, its sound anywhere in the 25 positions that follow."""


@dataclass(frozen=True, slots=True)
class NanoShape:
    """Sizes of the three networks. The defaults are the shipped model; tests use smaller ones."""

    hidden: int = 192
    layers: int = 12
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 48
    mlp: int = 512
    encoder: int = 96
    encoder_layers: int = 3
    mel_bins: int = 128
    rope_theta: float = 1e5
    # Pairs of rotary frequencies, highest first, handed to time, height, width in turn. Stock Qwen gives time the first block and
    # space the rest; at 24 pairs space would then turn by hundredths of a radian per cell and "left" would look like "right".
    mrope_section: tuple[int, ...] = (1, 1, 1, 3, 1, 1, 6, 1, 1, 6, 1, 1)

    @property
    def media_layers(self) -> int:
        """Decoder layers that see audio and video tokens in training: all but the last quarter."""
        return self.layers - self.layers // 4


def build_model(shape: NanoShape, tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> Qwen2_5OmniThinkerForConditionalGeneration:
    """A freshly initialised thinker in fp32, its special ids set from the tokenizer."""
    from transformers import Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration

    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    config = Qwen2_5OmniThinkerConfig(
        text_config=_text_config(shape, len(tokenizer), ids),
        vision_config=_vision_config(shape),
        audio_config=_audio_config(shape),
        audio_token_index=ids["<|AUDIO|>"],
        image_token_index=ids["<|IMAGE|>"],
        video_token_index=ids["<|VIDEO|>"],
        audio_start_token_id=ids["<|audio_bos|>"],
        audio_end_token_id=ids["<|audio_eos|>"],
        vision_start_token_id=ids["<|vision_bos|>"],
        vision_end_token_id=ids["<|vision_eos|>"],
        user_token_id=tokenizer.convert_tokens_to_ids("user"),
        position_id_per_seconds=25,
        seconds_per_chunk=2,
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = Qwen2_5OmniThinkerForConditionalGeneration(config).float()
    generator = torch.Generator().manual_seed(seed + 1)
    initialise(model, shape, generator)
    model.generation_config.eos_token_id = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    model.generation_config.do_sample = False
    return model


def _text_config(shape: NanoShape, words: int, ids: Mapping[str, int]) -> dict[str, object]:
    return {
        "vocab_size": -(-words // 8) * 8,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": 32768,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta, "mrope_section": list(shape.mrope_section)},
        "use_sliding_window": False,
        "tie_word_embeddings": True,
        "bos_token_id": ids["<|im_start|>"],
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
    }


def _vision_config(shape: NanoShape) -> dict[str, object]:
    return {
        "depth": shape.encoder_layers,
        "hidden_size": shape.encoder,
        "num_heads": 3,
        "intermediate_size": shape.encoder * 8 // 3,
        "out_hidden_size": shape.hidden,
        "fullatt_block_indexes": list(range(shape.encoder_layers)),
        "window_size": 112,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }


def _audio_config(shape: NanoShape) -> dict[str, object]:
    return {
        "encoder_layers": shape.encoder_layers,
        "d_model": shape.encoder,
        "encoder_attention_heads": 3,
        "encoder_ffn_dim": shape.encoder * 3,
        "num_mel_bins": shape.mel_bins,
        "output_dim": shape.hidden,
        "n_window": 100,
        "max_source_positions": 1500,
    }


@torch.no_grad()
def initialise(model: Qwen2_5OmniThinkerForConditionalGeneration, shape: NanoShape, generator: torch.Generator) -> None:
    """Rows of unit length, residual writes scaled by depth, heads that match content and heads that look at neighbours in time.

    In the first query head of each key/value group a token attends to what looks like itself. In the lower half, the last head of the
    first group starts at the token before, that of the last group at the same second of the clip. Initial values, not supervision.
    """
    rows = model.model.language_model.embed_tokens.weight
    rows.copy_(torch.nn.functional.normalize(torch.randn(rows.shape, generator=generator), dim=1))
    for number, layer in enumerate(model.model.language_model.layers):
        attention, mlp = layer.self_attn, layer.mlp
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
            projection.weight.copy_(torch.randn(projection.weight.shape, generator=generator) / shape.hidden**0.5)
            if projection.bias is not None:
                projection.bias.zero_()
        for projection in (attention.o_proj, mlp.down_proj):
            scale = (projection.weight.shape[1] * 2 * shape.layers) ** -0.5
            projection.weight.copy_(torch.randn(projection.weight.shape, generator=generator) * scale)
        for kv in range(shape.kv_heads):
            look_alike(attention, shape, kv, generator)
        if number < shape.layers // 2:
            look_near(attention, shape, 0, TOKEN_BEFORE)
            look_near(attention, shape, shape.kv_heads - 1, SAME_SECOND)


@torch.no_grad()
def look_alike(attention: Any, shape: NanoShape, kv: int, generator: torch.Generator) -> None:
    """Let query and key of group `kv` start as the same map, nearly orthogonal ("mimetic initialisation", Trockman and Kolter 2023,
    arXiv 2305.09828), with most of its weight where the rotary angle hardly turns: a word must find its like a minute away, and
    find it as surely as it finds itself.
    """
    width, head = shape.head_dim, kv * (shape.heads // shape.kv_heads)
    frequency = shape.rope_theta ** (-2.0 * torch.arange(width // 2) / width)
    gain = torch.where(frequency < SLOW, 1.5, 0.3).repeat(2)[:, None]
    square = torch.randn(shape.hidden, width, generator=generator)
    shared = gain * torch.linalg.qr(square).Q.T  # (head_dim, hidden)
    for weight, number in ((attention.q_proj.weight, head), (attention.k_proj.weight, kv)):
        weight[number * width : (number + 1) * width] = shared + 0.02 * torch.randn(shared.shape, generator=generator)


@torch.no_grad()
def look_near(attention: Any, shape: NanoShape, kv: int, near: Near) -> None:
    """Let the last query head of group `kv` start out attending to what lies `near.distance` positions before, and copying it."""
    width, head = shape.head_dim, (kv + 1) * (shape.heads // shape.kv_heads) - 1
    own = slice(head * width, (head + 1) * width)
    pairs = torch.tensor(near.pairs)
    frequency = shape.rope_theta ** (-2.0 * pairs / width)
    query_size, key_size = near.sharpness * width**0.5 / len(near.pairs) / KEY_BIAS, KEY_BIAS
    attention.q_proj.weight[own] *= 0.3
    attention.q_proj.bias[own] = 0.0
    # Rotated by their positions, the two constant vectors meet at the cosine of frequency x (distance - near.distance).
    attention.q_proj.bias[own][pairs] = query_size * (frequency * near.distance).cos()
    attention.q_proj.bias[own][pairs + width // 2] = -query_size * (frequency * near.distance).sin()
    attention.k_proj.bias[kv * width : (kv + 1) * width][pairs] = key_size
    value = attention.v_proj.weight[kv * width : (kv + 1) * width]
    attention.o_proj.weight[:, own] = near.copying * value.T
