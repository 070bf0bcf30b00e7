"""What is read from a config and a tokenizer, and what is said when they do not fit."""

from __future__ import annotations

from typing import Any

import pytest

from omnidrop_cli.errors import ModelError
from omnidrop_cli.prompt.spec import SPECIAL_TOKENS, PromptSpec
from tests.prompt.qwen import make_tokenizer, thinker_config


def test_ids_come_from_the_tokenizer(spec: PromptSpec, tokenizer: Any) -> None:
    for field, token in SPECIAL_TOKENS.items():
        assert tokenizer.convert_ids_to_tokens(getattr(spec, field)) == token


def test_sizes_come_from_the_config(tokenizer: Any) -> None:
    config = thinker_config(tokenizer)
    config.text_config.max_position_embeddings = 777
    config.vision_config.patch_size = 8
    config.audio_config.num_mel_bins = 80
    config.seconds_per_chunk = 4
    spec = PromptSpec.from_config(config, tokenizer)
    assert (spec.max_positions, spec.token_side_px, spec.n_mels, spec.positions_per_chunk) == (777, 16, 80, 100)


def test_normalisation_is_the_stock_processors(spec: PromptSpec) -> None:
    from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    assert spec.image_mean == tuple(OPENAI_CLIP_MEAN)
    assert spec.image_std == tuple(OPENAI_CLIP_STD)


def test_reserved_are_all_special_tokens_but_no_others(spec: PromptSpec) -> None:
    assert {"<|im_end|>", "<|IMAGE|>", "<|box_end|>"} <= set(spec.reserved)
    assert "<tool_call>" not in spec.reserved


@pytest.mark.parametrize("token", ["<|AUDIO|>", "<|im_start|>"])
def test_missing_token_is_named(tokenizer: Any, token: str) -> None:
    class Lacking:
        """A tokenizer of another model: it answers its unknown token's id."""

        def __init__(self) -> None:
            self.added_tokens_decoder = tokenizer.added_tokens_decoder

        def convert_tokens_to_ids(self, asked: str) -> int:
            return 0 if asked == token else int(tokenizer.convert_tokens_to_ids(asked))

        def convert_ids_to_tokens(self, index: int) -> str:
            return str(tokenizer.convert_ids_to_tokens(index))

        def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
            raise NotImplementedError

    with pytest.raises(ModelError) as error:
        PromptSpec.from_config(thinker_config(tokenizer), Lacking())
    assert token in error.value.message


def test_plain_qwen2_tokenizer_is_refused() -> None:
    from transformers import Qwen2Tokenizer

    with pytest.raises(ModelError):
        PromptSpec.from_config(thinker_config(make_tokenizer()), Qwen2Tokenizer())


def test_config_and_tokenizer_of_different_models(tokenizer: Any) -> None:
    config = thinker_config(tokenizer)
    config.audio_token_index = 151646
    with pytest.raises(ModelError) as error:
        PromptSpec.from_config(config, tokenizer)
    assert "151646" in error.value.message
    assert error.value.hint
