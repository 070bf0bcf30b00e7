"""The adapter against transformers' own forward, whatever its version."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import rms_norm

from omnidrop_cli.engine.kv_cache import RaggedCache
from omnidrop_cli.errors import ModelError
from omnidrop_cli.model.adapter import QwenOmniAdapter, cache_in, unquantized_names
from omnidrop_cli.model.random_weights import random_thinker, thinker_config, tiny_sizes, tiny_thinker, tiny_tokenizer


@pytest.fixture(scope="module")
def adapter() -> QwenOmniAdapter:
    return tiny_thinker(4).adapter


def prompt(adapter: QwenOmniAdapter, rows: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.arange(40, 40 + rows)[None]
    return adapter.embed(ids), torch.arange(rows).expand(3, 1, rows)


@torch.inference_mode()
def test_the_loop_over_layers_is_the_stock_forward_bit_for_bit(adapter: QwenOmniAdapter) -> None:
    embeds, positions = prompt(adapter)
    stock_cache, own_cache, split_cache = (RaggedCache(adapter.num_layers) for _ in range(3))
    stock = adapter.run_stock(embeds, positions, stock_cache)
    angles = adapter.rotary(embeds, positions)
    whole = split = embeds
    for number in range(adapter.num_layers):
        whole = adapter.run_layer(number, whole, angles, cache=own_cache)
        layer = adapter.layer(number)
        split = layer.feed_forward(layer.attention(split, angles, split_cache.layers[number]))
    assert torch.equal(adapter.norm(whole), stock)
    assert torch.equal(adapter.norm(split), stock)
    for number in range(adapter.num_layers):
        assert torch.equal(own_cache.layers[number].keys, stock_cache.layers[number].keys)
        assert torch.equal(split_cache.layers[number].values, stock_cache.layers[number].values)


@torch.inference_mode()
def test_a_decoded_row_is_that_of_the_stock_layer_bit_for_bit(adapter: QwenOmniAdapter) -> None:
    embeds, positions = prompt(adapter)
    stock_cache, own_cache = (RaggedCache(adapter.num_layers) for _ in range(2))
    angles = adapter.rotary(embeds, positions)
    row, last = embeds[:, -1:], tuple(angle[:, -1:] for angle in angles)
    for number in range(adapter.num_layers):
        for cache in (stock_cache, own_cache):
            adapter.run_layer(number, embeds, angles, cache=cache)
        stock = adapter.run_layer(number, row, last, cache=stock_cache)
        row = adapter.layer(number).decode(row, last, own_cache)
        assert torch.equal(row, stock)
        assert torch.equal(own_cache.layers[number].keys, stock_cache.layers[number].keys)
        assert torch.equal(own_cache.layers[number].values, stock_cache.layers[number].values)


@torch.inference_mode()
def test_the_norm_of_a_gpu_is_the_modules(adapter: QwenOmniAdapter) -> None:
    norm = adapter.norm
    rows = torch.randn(9, norm.weight.shape[0])
    torch.testing.assert_close(rms_norm(rows, rows.shape[-1:], norm.weight, norm.variance_epsilon), norm(rows), rtol=1e-5, atol=1e-6)


@torch.inference_mode()
def test_projections_are_those_of_the_cache(adapter: QwenOmniAdapter) -> None:
    embeds, positions = prompt(adapter)
    angles, cache = adapter.rotary(embeds, positions), RaggedCache(adapter.num_layers)
    adapter.run_layer(0, embeds, angles, cache=cache)
    keys, values = adapter.layer(0).keys_and_values(embeds, angles)
    torch.testing.assert_close(keys, cache.layers[0].keys)
    torch.testing.assert_close(values, cache.layers[0].values)
    assert adapter.layer(0).queries(embeds, angles).shape[1] % keys.shape[1] == 0


def test_parts_found_by_identity_stay_unquantised() -> None:
    thinker = tiny_thinker(2)
    names = unquantized_names(thinker_config(tiny_sizes(2), tiny_tokenizer()))
    found = {id(thinker.model.get_submodule(name)) for name in names}
    adapter = thinker.adapter
    assert found == {id(adapter.vision_encoder), id(adapter.audio_encoder), id(adapter.lm_head)}


def test_the_cache_is_found_by_what_it_can_do() -> None:
    cache = RaggedCache(1)
    assert cache_in({"hidden_states": torch.ones(1), "renamed_again": cache}) is cache
    assert cache_in({"cache": None}) is None


def test_another_model_is_refused_in_one_line() -> None:
    with pytest.raises(ModelError, match="no decoder layers"):
        QwenOmniAdapter(torch.nn.Linear(2, 2))


def test_cudnn_attention_is_off_after_loading() -> None:
    torch.backends.cuda.enable_cudnn_sdp(True)
    tiny_thinker(1)
    assert not torch.backends.cuda.cudnn_sdp_enabled()


@torch.inference_mode()
def test_a_faster_vision_encoder_gives_the_same() -> None:
    sizes = tiny_sizes(1)
    thinker = random_thinker(replace(sizes, vision=replace(sizes.vision, mlp=52)))
    adapter, noise = thinker.adapter, torch.Generator().manual_seed(0)
    patches, grid = torch.randn(2 * 4 * 8, 3 * 2 * 14 * 14, generator=noise), torch.tensor([[2, 4, 8]])
    expected = adapter.encode_video(patches, grid)
    for _ in range(2):
        adapter.speed_up_encoders()
        torch.testing.assert_close(adapter.encode_video(patches, grid), expected, rtol=1e-5, atol=1e-5)
    parameters = dict(adapter.vision_encoder.named_parameters())
    assert [p.shape for name, p in parameters.items() if name.endswith("down_proj.weight")] == [(32, 56)] * 2
    assert all("norm" not in name or "weight" in name for name in parameters)
