"""Fewer rows at a time, and one row through the last layer: the decoder's answer is the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from omnidrop_cli.bench.synthetic import noise_features, papers_prompt
from omnidrop_cli.config import PruningConfig
from omnidrop_cli.engine.decode_step import step
from omnidrop_cli.engine.encode import embed
from omnidrop_cli.engine.kv_cache import RaggedCache
from omnidrop_cli.engine.oom import Limits
from omnidrop_cli.engine.prefill import prefill
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.model.thinker import Thinker
from omnidrop_cli.prune.generate_hook import pruning
from omnidrop_cli.prune.methods import get_method

METHODS = [PruningConfig("none"), PruningConfig("omnidrop", 0.3), PruningConfig("random", 0.5)]


def hooks(thinker: Thinker) -> int:
    modules = list(thinker.model.modules())
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + ("forward" in m.__dict__) for m in modules)


@pytest.mark.parametrize("choice", METHODS, ids=lambda c: c.name)
@pytest.mark.parametrize("rows", [50, 100, 4096])
@pytest.mark.parametrize(("layers", "heads", "kv_heads", "head_dim"), [(4, 4, 2, 16), (1, 6, 1, 32)])
def test_prefill_equals_every_row_through_every_layer(
    choice: PruningConfig, rows: int, layers: int, heads: int, kv_heads: int, head_dim: int
) -> None:
    thinker = tiny_thinker(layers, heads, kv_heads, head_dim)
    prompt = papers_prompt(thinker, 3)
    features, method = noise_features(thinker, prompt), get_method(choice)
    before = hooks(thinker)
    prefilled = prefill(thinker, prompt, embed(thinker, prompt, features), features, method, limits=Limits(rows=rows))
    assert hooks(thinker) == before

    cache = RaggedCache(layers)
    audio_attention, _ = features.attention_for(method.needs)
    with torch.inference_mode(), pruning(thinker.model, method, prompt.token_map, audio_attention=audio_attention) as run:
        positions = torch.from_numpy(prompt.positions)[:, None]
        whole = thinker.adapter.run_stock(embed(thinker, prompt, features), positions, cache)
        logits = thinker.adapter.lm_head(whole[0, -1])
    assert prefilled.cache.lengths == cache.lengths == run.trace().kv_lengths == prefilled.trace.kv_lengths
    torch.testing.assert_close(prefilled.logits, logits, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(prefilled.cache.layers, cache.layers, strict=True):
        torch.testing.assert_close(mine.keys, theirs.keys, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mine.values, theirs.values, rtol=1e-4, atol=1e-5)
    for offset in range(3):
        ours, stock = (step(thinker, c, 7 + offset, prompt.next_position + offset) for c in (prefilled.cache, cache))
        torch.testing.assert_close(ours, stock, rtol=1e-4, atol=1e-5)


def test_chunks_bound_what_an_mlp_sees() -> None:
    thinker = tiny_thinker(2)
    seen: list[int] = []
    for number in range(2):
        thinker.adapter.linears(number)["gate"].register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    prompt = papers_prompt(thinker, 2)
    features = noise_features(thinker, prompt)
    embeds = embed(thinker, prompt, features)
    prefill(thinker, prompt, embeds, features, get_method(METHODS[0]), limits=Limits(rows=100))
    assert seen == [100] * (len(prompt) // 100) + [len(prompt) % 100] * (len(prompt) % 100 > 0) + [1]


def test_last_row_of_one_token_prompts() -> None:
    """A prompt of a single token is a decode step already."""
    thinker = tiny_thinker(2)
    prompt = papers_prompt(thinker, 2)
    tokens = prompt.token_map
    one = replace(
        prompt,
        input_ids=prompt.input_ids[:1],
        positions=prompt.positions[:, :1],
        token_map=replace(tokens, **{name: getattr(tokens, name)[:1] for name in tokens.__slots__}),
    )
    features = replace(noise_features(thinker, prompt), audio=None, video=None)
    prefilled = prefill(thinker, one, embed(thinker, one, features), features, get_method(METHODS[0]))
    assert prefilled.cache.lengths == (1, 1)


@pytest.mark.parametrize("choice", [PruningConfig("none"), PruningConfig("omnidrop", 0.15)], ids=lambda c: c.name)
def test_a_prefill_never_waits_for_the_device(choice: PruningConfig) -> None:
    """On the meta device there is nothing to wait for: whatever needs a value on the host fails."""
    thinker = tiny_thinker(6)
    prompt = papers_prompt(thinker, 4)
    features = noise_features(thinker, prompt)
    thinker.model.to("meta")
    names = ("audio", "video", "audio_attention", "audio_attention_clip", "video_attention")
    features = replace(features, **{name: getattr(features, name).to("meta") for name in names})
    method = get_method(choice)
    prefilled = prefill(thinker, prompt, embed(thinker, prompt, features), features, method, limits=Limits(rows=100))
    assert prefilled.logits.is_meta
    if choice.name == "omnidrop":
        assert len(set(prefilled.cache.lengths)) > 3
