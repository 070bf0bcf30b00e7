"""The adapter finds a thinker's parts, and calls them as transformers does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from omnidrop_cli.engine.kv_cache import RaggedCache
from omnidrop_cli.model.adapter import QwenOmniAdapter, unquantized_names
from omnidrop_cli.model.random_weights import thinker_config, tiny_sizes, tiny_thinker, tiny_tokenizer
from omnidrop_cli.model.thinker import Thinker


@pytest.fixture(scope="module")
def thinker() -> Thinker:
    return tiny_thinker(3)


@pytest.fixture(scope="module")
def prompt(thinker: Thinker) -> tuple[Tensor, Tensor]:
    """Embeddings (1, n, d) and TMRoPE positions (3, 1, n)."""
    steps = torch.arange(30)
    return thinker.adapter.embed(steps + 70)[None], torch.stack((steps, steps // 3, steps % 7))[:, None]


def test_every_parameter_belongs_to_a_part(thinker: Thinker) -> None:
    adapter, sizes = thinker.adapter, tiny_sizes(layers=3)
    parts = {"decoder": adapter.text_model, "head": adapter.lm_head, "audio": adapter.audio_encoder, "vision": adapter.vision_encoder}
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    assert counts["audio"] == sizes.audio.parameters(sizes.decoder.hidden)
    assert counts["vision"] == sizes.vision.parameters(sizes.decoder.hidden)
    assert counts["decoder"] + counts["head"] == sizes.decoder.parameters
    assert sum(counts.values()) == sum(p.numel() for p in thinker.model.parameters())
    assert QwenOmniAdapter(adapter.text_model).layers is adapter.layers


@torch.inference_mode()
def test_the_layer_loop_is_the_stock_forward(thinker: Thinker, prompt: tuple[Tensor, Tensor]) -> None:
    adapter, (embeds, positions) = thinker.adapter, prompt
    angles, hidden = adapter.rotary(embeds, positions), embeds
    for number in range(3):
        layer = adapter.layer(number)
        halves = layer.feed_forward(layer.attention(hidden, angles))
        hidden = adapter.run_layer(number, hidden, angles)
        assert torch.equal(halves, hidden)
    assert torch.equal(adapter.norm(hidden), adapter.run_stock(embeds, positions))
    torch.testing.assert_close(adapter.logits(hidden), adapter.lm_head(adapter.norm(hidden))[0, -1].float(), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_an_additive_mask_hides_keys(thinker: Thinker, prompt: tuple[Tensor, Tensor]) -> None:
    adapter, (embeds, positions) = thinker.adapter, prompt
    cos, sin = adapter.rotary(embeds, positions)
    causal = torch.full((30, 30), float("-inf")).triu(1)
    torch.testing.assert_close(
        adapter.run_layer(0, embeds, (cos, sin), mask=causal[None, None]), adapter.run_layer(0, embeds, (cos, sin)), rtol=1e-5, atol=1e-5
    )
    causal[20:, 5:15] = float("-inf")
    masked = adapter.run_layer(0, embeds, (cos, sin), mask=causal[None, None])[:, 20:]
    rows = torch.tensor([*range(5), *range(15, 30)])
    without = adapter.run_layer(0, embeds[:, rows], (cos[:, rows], sin[:, rows]))[:, 10:]
    torch.testing.assert_close(masked, without, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("make", [RaggedCache, lambda _: DynamicCache()], ids=["ours", "stock"])
def test_any_cache_serves(make: Callable[[int], Any], thinker: Thinker, prompt: tuple[Tensor, Tensor]) -> None:
    """A cache is what has `update`; the last row after 29 cached ones is the last row of all 30."""
    adapter, (embeds, positions) = thinker.adapter, prompt
    cache, whole = make(3), adapter.run_stock(embeds, positions)
    adapter.run_stock(embeds[:, :29], positions[..., :29], cache)
    assert cache.get_seq_length() == 29
    hidden, angles = embeds[:, 29:], adapter.rotary(embeds[:, 29:], positions[..., 29:])
    for number in range(3):
        hidden = adapter.run_layer(number, hidden, angles, cache=cache)
    torch.testing.assert_close(adapter.norm(hidden), whole[:, 29:], rtol=1e-5, atol=1e-5)
    assert cache.get_seq_length() == 30


@torch.inference_mode()
def test_projections_are_the_layers_own(thinker: Thinker, prompt: tuple[Tensor, Tensor]) -> None:
    """Attention computed by hand from projected queries, keys and values equals the attention block."""
    adapter, (embeds, positions) = thinker.adapter, prompt
    angles, cache = adapter.rotary(embeds, positions), RaggedCache(3)
    layer = adapter.layer(1)
    expected = layer.attention(embeds, angles, cache.layers[1])
    keys, values = layer.keys_and_values(embeds, angles)
    queries = layer.queries(embeds, angles)
    torch.testing.assert_close(cache.layers[1].keys, keys)
    torch.testing.assert_close(cache.layers[1].values, values)
    groups = queries.shape[1] // keys.shape[1]
    scores = queries @ keys.repeat_interleave(groups, 1).transpose(2, 3) * layer.scale
    weights = (scores + torch.full((30, 30), float("-inf")).triu(1)).softmax(-1)
    mixed = (weights @ values.repeat_interleave(groups, 1)).transpose(1, 2).flatten(2)
    torch.testing.assert_close(embeds + layer.o(mixed), expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_encoders_batch_their_windows(thinker: Thinker) -> None:
    adapter, noise = thinker.adapter, torch.Generator().manual_seed(1)
    mel, patches, grid = (
        torch.randn(128, 701, generator=noise),
        torch.randn(3 * 10 * 14, 1176, generator=noise),
        torch.tensor([[3, 10, 14]]),
    )
    with adapter.capture_audio_attention() as heard, adapter.capture_video_attention() as seen:
        ours = adapter.encode_audio(mel), adapter.encode_video(patches, grid)
    with adapter.stock_encoder_attention():
        stock = adapter.encode_audio(mel), adapter.encode_video(patches, grid)
    for mine, theirs, attention in zip(ours, stock, (heard, seen), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
        assert attention.received().shape == (len(mine),)
        assert float(attention.received().mean()) == pytest.approx(1.0, abs=0.02)


def test_modules_that_stay_unquantised_are_found() -> None:
    names = unquantized_names(thinker_config(tiny_sizes(), tiny_tokenizer()))
    model = tiny_thinker().model
    adapter = QwenOmniAdapter(model)
    found = {id(model.get_submodule(name)) for name in names}
    assert found == {id(part) for part in (adapter.audio_encoder, adapter.vision_encoder, adapter.lm_head)}
