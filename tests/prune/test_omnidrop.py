"""OmniDrop's stages put together: what is chosen where, and what each option changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from omnidrop_cli.outputs import TokenMap
from omnidrop_cli.prune.base import PromptInfo
from omnidrop_cli.prune.methods.omnidrop import OmniDrop, QueryGuided, usable_queries
from tests.prune.fakes import SHAPES, FakeView, input_view, run, token_map

LONG = SHAPES["long"]


def test_published_input_keeps_the_most_attended_audio_and_the_anchors() -> None:
    method = OmniDrop(calibration="paper-30")
    plan = method.plan(PromptInfo(LONG, 28))
    view = input_view(LONG)
    assert plan.input_stage is not None
    chosen = plan.input_stage(view)
    assert view.audio_attention is not None
    assert len(chosen.audio) == 420  # 70 % of 600
    assert set(view.audio_attention.topk(420).indices.tolist()) == set(chosen.audio.tolist())
    grids = chosen.video // 16
    assert [(grids == grid).sum().item() for grid in range(0, 24, 4)] == [16] * 6
    assert len(chosen.video) == pytest.approx(0.4 * 384, abs=1)


def test_audio_can_be_ranked_chunk_by_chunk() -> None:
    plan = OmniDrop(calibration="paper-30", audio_ranking="chunk").plan(PromptInfo(LONG, 28))
    assert plan.input_stage is not None
    chosen = plan.input_stage(input_view(LONG)).audio
    assert [(chosen // 50 == chunk).sum().item() for chunk in range(12)] == [35] * 12


def test_missing_encoder_attention_is_said() -> None:
    plan = OmniDrop().plan(PromptInfo(SHAPES["sound"], 28))
    view = input_view(SHAPES["sound"])
    assert plan.input_stage is not None
    with pytest.raises(ValueError, match="attention of its encoder"):
        plan.input_stage(type(view)(view.tokens, view.audio, view.video, view.query))


def view_with(scores: list[float], chunks: list[int], layer: int) -> FakeView:
    count = len(scores)
    view = FakeView(layer, 28, torch.ones(count), torch.tensor(chunks), torch.arange(count), count, 4)
    view.attention = lambda queries="query": torch.tensor(scores)  # type: ignore[method-assign]
    return view


def test_diversity_starts_at_its_layer() -> None:
    stage = QueryGuided(keep_counts=(3,) * 28, queries="query", tds_layer=14, lambda_div=0.2, normalise=False)
    scores, chunks = [1e-5, 2e-5, 0.3, 0.9], [0, 2, 0, 2]
    assert stage(view_with(scores, chunks, 13), 3).tolist() == [1, 2, 3]
    assert stage(view_with(scores, chunks, 14), 3).tolist() == [0, 2, 3]
    assert stage(view_with([0.9, 1e-5, 2e-5, 0.3], chunks, 14), 3).tolist() != stage(view_with(scores, chunks, 14), 3).tolist()


def test_switches() -> None:
    only_input = run(OmniDrop(keep=0.3, use_plp=False), LONG, 28)
    assert len(only_input.entering) == len(only_input.leaving[-1]) == round(0.3 * LONG.counts().media)
    plan = OmniDrop(use_tds=False).plan(PromptInfo(LONG, 28))
    assert isinstance(plan.in_llm_stage, QueryGuided)
    assert plan.in_llm_stage.tds_layer == 28
    halves = run(OmniDrop(ttm_frames="halves"), LONG, 28)
    assert not torch.equal(halves.entering, run(OmniDrop(), LONG, 28).entering)


def test_explicit_rates_run_as_they_are() -> None:
    plan = OmniDrop(p_final=0.2).plan(PromptInfo(LONG, 28))
    assert plan == OmniDrop(calibration="paper-30").plan(PromptInfo(LONG, 28))


def reordered(tokens: TokenMap, order: list[int]) -> TokenMap:
    return TokenMap(*(getattr(tokens, name)[np.array(order)] for name in TokenMap.__slots__))


def test_a_question_before_the_media_is_read_through_the_last_token() -> None:
    tokens = token_map((10,), (2,))
    asking = tokens.is_query.nonzero()[0].tolist()
    first = reordered(tokens, asking + [i for i in range(len(tokens)) if i not in asking])
    assert usable_queries(tokens, "query") == "query"
    assert usable_queries(first, "query") == "last"
    assert usable_queries(first, "text") == "text"
    assert usable_queries(token_map((10,), (2,), query=0), "query") == "last"
