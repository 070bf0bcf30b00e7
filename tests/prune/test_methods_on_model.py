"""Every method through the real hook on a real, tiny decoder: what is planned is what the layers see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from omnidrop_cli.engine.kv_cache import RaggedCache
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.prompt.layout import Layout, assemble, lay_out
from omnidrop_cli.prune.base import PromptInfo
from omnidrop_cli.prune.generate_hook import pruning
from omnidrop_cli.prune.methods import find, names
from tests.prune.fakes import made

LAYERS = 6
METHODS = [name for name in names() if "keep" in find(name).__dataclass_fields__]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def thinker():  # type: ignore[no-untyped-def]
    return tiny_thinker(LAYERS)


def layout_of(thinker, grids: int, audio: int) -> Layout:  # type: ignore[no-untyped-def]
    block = lay_out(thinker.spec, grid_thw=(grids, 4, 6) if grids else None, seconds_per_grid=1.0, audio_tokens=audio)
    is_query = (np.arange(20) >= 11) & (np.arange(20) < 17)
    return assemble(np.arange(20) + 3, is_query, 5, [block])


@pytest.mark.parametrize("name", [*METHODS, "seats+omnidrop", "omnizip+fastv"])
@pytest.mark.parametrize(("grids", "audio"), [(5, 130), (0, 60), (5, 0)])
def test_layers_see_what_was_planned(thinker, name: str, grids: int, audio: int) -> None:  # type: ignore[no-untyped-def]
    layout = layout_of(thinker, grids, audio)
    method = made(name, keep=0.3)
    counts = layout.tokens.counts()
    generator = torch.Generator().manual_seed(0)
    saliency: dict[str, Any] = {
        "audio_attention": torch.rand(counts.audio, generator=generator),
        "video_attention": torch.rand(counts.video, generator=generator),
    }
    cache = RaggedCache(LAYERS)
    with torch.inference_mode(), pruning(thinker.model, method, layout.tokens, **saliency) as run:
        embeds = thinker.adapter.embed(torch.from_numpy(layout.input_ids))[None]
        # Placeholders share one embedding; what encoders give does not.
        embeds = embeds + 0.1 * torch.randn(embeds.shape, generator=generator)
        hidden = thinker.adapter.run_stock(embeds, torch.from_numpy(layout.positions)[:, None], cache)
    trace = run.trace()
    assert trace.method == name
    assert trace.retention_after == pytest.approx(0.3, abs=1 / counts.media + 1e-9)
    assert cache.lengths == trace.kv_lengths
    assert all(leaving.text == counts.text for leaving in trace.leaving)
    assert all((np.diff(kept) > 0).all() for kept in trace.kept)
    assert hidden.isfinite().all()
    inside = method.plan(PromptInfo(layout.tokens, LAYERS)).in_llm_stage
    alive = trace.entering[0].media
    for layer, leaving in enumerate(trace.leaving):
        alive = inside.keep_count(layer, alive) if inside else alive
        assert leaving.media == alive


@pytest.mark.parametrize("name", ["omnidrop", "fastv"])
def test_without_a_cache_the_same_tokens_stay(thinker, name: str) -> None:  # type: ignore[no-untyped-def]
    """Keys are then computed again from what enters the layer."""
    layout = layout_of(thinker, 5, 130)
    counts = layout.tokens.counts()
    noise = 0.1 * torch.randn(1, len(layout.tokens), 1, generator=torch.Generator().manual_seed(0))
    kept = []
    for cache in (RaggedCache(LAYERS), None):
        given = {"audio_attention": torch.ones(counts.audio), "video_attention": torch.ones(counts.video)}
        with torch.inference_mode(), pruning(thinker.model, made(name, keep=0.3), layout.tokens, **given) as run:
            embeds = thinker.adapter.embed(torch.from_numpy(layout.input_ids))[None] + noise
            thinker.adapter.run_stock(embeds, torch.from_numpy(layout.positions)[:, None], cache)
        kept.append([layer.tolist() for layer in run.trace().kept])
    assert kept[0] == kept[1]
    assert len(kept[0][-1]) < len(layout.tokens) / 2
