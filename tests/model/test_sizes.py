"""Parameter counts and memory guesses against real modules."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from accelerate import init_empty_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from omnidrop_cli.model.adapter import QwenOmniAdapter
from omnidrop_cli.model.memory_estimate import MemoryGuess, decoder_bytes, guess
from omnidrop_cli.model.names import AUTO_BYTES
from omnidrop_cli.model.random_weights import thinker_config, tiny_sizes, tiny_thinker, tiny_tokenizer
from omnidrop_cli.model.sizes import QWEN_3B, QWEN_7B, ThinkerSizes

MINUTE = 30 * (50 + 288) + 120
"""Tokens of a minute of video in the papers' layout, and a question."""


@pytest.mark.parametrize("sizes", [QWEN_7B, QWEN_3B, tiny_sizes(), tiny_sizes(layers=7, heads=6, kv_heads=3, tied=True)])
def test_parameter_counts_are_exact(sizes: ThinkerSizes) -> None:
    with init_empty_weights():
        model = Qwen2_5OmniThinkerForConditionalGeneration(thinker_config(sizes, tiny_tokenizer()))
    model.tie_weights()
    adapter = QwenOmniAdapter(model)
    assert count(adapter.vision_encoder) == sizes.vision.parameters(sizes.decoder.hidden)
    assert count(adapter.audio_encoder) == sizes.audio.parameters(sizes.decoder.hidden)
    assert count(model) == sizes.parameters
    assert count(adapter.layers[0]) == sizes.decoder.layer_parameters


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_published_sizes() -> None:
    """The hub states 10.7 billion parameters for the whole 7B model; its thinker is 8.9 of them."""
    assert QWEN_7B.parameters == pytest.approx(8.93e9, rel=0.005)
    assert QWEN_3B.parameters == pytest.approx(4.70e9, rel=0.005)


@pytest.mark.parametrize("sizes", [QWEN_7B, QWEN_3B, tiny_sizes(tied=True)])
def test_sizes_survive_its_configuration(sizes: ThinkerSizes) -> None:
    assert ThinkerSizes.from_dict(thinker_config(sizes, tiny_tokenizer()).to_dict()) == sizes


def test_a_bare_configuration_has_the_defaults_of_transformers() -> None:
    from transformers import Qwen2_5OmniThinkerConfig

    bare: dict[str, object] = {"text_config": {}, "vision_config": {}, "audio_config": {}}
    assert ThinkerSizes.from_dict(bare) == ThinkerSizes.from_dict(Qwen2_5OmniThinkerConfig().to_dict())


@pytest.mark.parametrize("quant", ["none", "nf4", "int8"])
def test_weights_are_guessed_to_a_percent(quant: str) -> None:
    sizes = tiny_sizes(layers=3, heads=4, kv_heads=2, head_dim=64, mlp=1024)
    model = _random(sizes, quant)
    held = sum(_bytes(parameter) for parameter in QwenOmniAdapter(model).layers.parameters())
    assert decoder_bytes(sizes, quant) == pytest.approx(held, rel=0.01)


def _random(sizes: ThinkerSizes, quant: str) -> torch.nn.Module:
    from omnidrop_cli.model.random_weights import random_thinker

    model: torch.nn.Module = random_thinker(sizes, dtype=torch.bfloat16, quant=quant).model
    return model


def _bytes(parameter: torch.nn.Parameter) -> int:
    total = parameter.numel() * parameter.element_size()
    state = getattr(parameter, "quant_state", None)
    if state is not None:
        total += state.absmax.numel() * state.absmax.element_size() + state.state2.absmax.numel() * 4
    scales = getattr(parameter, "SCB", None)
    return total + (scales.numel() * 4 if scales is not None else 0)


def test_cache_bytes_are_exact() -> None:
    thinker = tiny_thinker(layers=3, dtype=torch.bfloat16)
    with torch.inference_mode():
        cache = thinker.model(torch.arange(40)[None], use_cache=True).past_key_values
    held = sum(2 * layer.keys.numel() * layer.keys.element_size() for layer in cache.layers)
    assert guess(tiny_sizes(layers=3), "none", [40] * 3).kv_mb == pytest.approx(held / 1e6)


def test_a_minute_fits_where_auto_says_so() -> None:
    for name, sizes in (("7b", QWEN_7B), ("3b", QWEN_3B)):
        assert guess(sizes, "nf4", [MINUTE] * sizes.decoder.num_layers).peak_mb * 1e6 < AUTO_BYTES[name]


@settings(max_examples=50)
@given(
    tokens=st.integers(1, 100_000),
    fewer=st.floats(0.05, 1.0),
    quant=st.sampled_from(["none", "int8", "nf4"]),
)
def test_fewer_tokens_never_need_more(tokens: int, fewer: float, quant: str) -> None:
    full = guess(QWEN_3B, quant, [tokens] * 36)
    pruned = guess(QWEN_3B, quant, [tokens] * 18 + [max(1, int(tokens * fewer))] * 18)
    assert pruned.kv_mb <= full.kv_mb
    assert pruned.peak_mb <= full.peak_mb
    assert full.weights_mb == pruned.weights_mb


def test_quantisation_orders_the_weights() -> None:
    nf4, int8, none = (guess(QWEN_7B, quant, [MINUTE] * 28).weights_mb for quant in ("nf4", "int8", "none"))
    assert nf4 < int8 < none == pytest.approx(QWEN_7B.parameters * 2 / 1e6)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="layers"):
        guess(QWEN_7B, "none", [10])
    with pytest.raises(ValueError, match="int3"):
        guess(replace(QWEN_7B), "int3", [10] * 28)


def test_sound_alone_needs_no_vision_activations() -> None:
    both = guess(QWEN_7B, "nf4", [1000] * 28)
    sound: MemoryGuess = guess(QWEN_7B, "nf4", [1000] * 28, video_patches=0)
    assert sound.encoders_mb < both.encoders_mb
