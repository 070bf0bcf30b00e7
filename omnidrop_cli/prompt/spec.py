"""What the prompt needs to know of a model: token ids, patch and mel sizes, the clock of its positions.

Qwen2.5-Omni's special tokens and the constants of its processors. Everything else in this package takes a `PromptSpec` and never looks at
a model's config again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from omnidrop_cli.errors import ModelError

SPECIAL_TOKENS: Mapping[str, str] = {
    "im_start": "<|im_start|>",
    "im_end": "<|im_end|>",
    "endoftext": "<|endoftext|>",
    "vision_bos": "<|vision_bos|>",
    "vision_eos": "<|vision_eos|>",
    "video": "<|VIDEO|>",
    "audio_bos": "<|audio_bos|>",
    "audio_eos": "<|audio_eos|>",
    "audio": "<|AUDIO|>",
}
"""Fields of `PromptSpec` and the tokens behind them, as Qwen2.5-Omni's tokenizer spells them."""

_CONFIG_IDS: Mapping[str, str] = {
    "audio": "audio_token_id",
    "video": "video_token_id",
    "audio_bos": "audio_start_token_id",
    "audio_eos": "audio_end_token_id",
    "vision_bos": "vision_start_token_id",
}
"""Ids that a thinker config repeats; the stock model finds its media by them, so they must agree with the tokenizer."""


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that this package uses."""

    added_tokens_decoder: Mapping[int, Any]

    def encode(self, text: str, *, add_special_tokens: bool = ...) -> list[int]: ...
    def convert_tokens_to_ids(self, tokens: str) -> Any: ...
    def convert_ids_to_tokens(self, ids: int) -> Any: ...


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """Constants of one model and its tokenizer.

    `max_positions` is the longest prompt in tokens. `reserved` are texts a tokenizer turns into one special token wherever it meets
    them; in a user's words they must stay words. `image_mean`/`image_std` are those of Qwen2VLVideoProcessor (OPENAI_CLIP), for
    pixels in [0, 1]. A temporal position lasts 1 / `position_id_per_seconds` seconds (TMRoPE). `seconds_per_grid` fixes how long a pair of
    frames lasts in the layout; None is the clip's own time. Published pipelines leave the frame rate out, so theirs is 1.0 for every clip.
    """

    im_start: int
    im_end: int
    endoftext: int
    vision_bos: int
    vision_eos: int
    video: int
    audio_bos: int
    audio_eos: int
    audio: int
    max_positions: int = 32_768
    reserved: tuple[str, ...] = tuple(SPECIAL_TOKENS.values())
    patch_size: int = 14
    temporal_patch_size: int = 2
    spatial_merge_size: int = 2
    n_mels: int = 128
    position_id_per_seconds: int = 25
    seconds_per_chunk: float = 2.0
    seconds_per_grid: float | None = None
    image_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    image_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    @property
    def token_side_px(self) -> int:
        """Side of the square of pixels behind one video token; frames are multiples of it."""
        return self.patch_size * self.spatial_merge_size

    @property
    def positions_per_chunk(self) -> int:
        """Temporal positions in one interleaving chunk."""
        return int(self.position_id_per_seconds * self.seconds_per_chunk)

    @classmethod
    def from_config(cls, thinker_config: Any, tokenizer: Tokenizer) -> PromptSpec:
        """Read a `Qwen2_5OmniThinkerConfig` and its tokenizer.

        Raises `ModelError` where the tokenizer lacks a token of Qwen2.5-Omni, or the two disagree about its id.
        """
        ids: dict[str, Any] = {field: _token_id(tokenizer, token) for field, token in SPECIAL_TOKENS.items()}
        for field, attribute in _CONFIG_IDS.items():
            configured = getattr(thinker_config, attribute, None)
            if configured is not None and configured != ids[field]:
                raise ModelError(
                    f"the tokenizer gives {SPECIAL_TOKENS[field]} the id {ids[field]}, but the model's config says {configured}",
                    "the tokenizer belongs to another model; use the files of one checkpoint together",
                )
        special = {str(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special}
        vision, text = thinker_config.vision_config, thinker_config.text_config
        return cls(
            **ids,
            max_positions=int(text.max_position_embeddings),
            reserved=tuple(sorted(special.union(SPECIAL_TOKENS.values()))),
            patch_size=int(vision.patch_size),
            temporal_patch_size=int(vision.temporal_patch_size),
            spatial_merge_size=int(vision.spatial_merge_size),
            n_mels=int(thinker_config.audio_config.num_mel_bins),
            position_id_per_seconds=int(thinker_config.position_id_per_seconds),
            seconds_per_chunk=float(thinker_config.seconds_per_chunk),
        )


def _token_id(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.convert_tokens_to_ids(token)
    # A tokenizer with an unknown token answers that one's id for a word it lacks: only the way back tells.
    if found is None or tokenizer.convert_ids_to_tokens(found) != token:
        raise ModelError(f"the tokenizer has no {token} token", "omnidrop runs Qwen2.5-Omni checkpoints only")
    return int(found)
