"""OmniDrop's stages put together: what is chosen where, and what each option changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.config import PruningConfig
from omnidrop_cli.outputs import TokenMap
from omnidrop_cli.prune.base import PromptInfo
from omnidrop_cli.prune.methods import get_method
from omnidrop_cli.prune.methods.divprune import MostDiverse
from omnidrop_cli.prune.methods.omnidrop import IntraModality, OmniDrop, QueryGuided, modality_counts, usable_queries
from tests.prune.fakes import SHAPES, FakeView, input_view, run, token_map

LONG = SHAPES["long"]


def test_published_input_keeps_the_most_attended_audio_and_the_anchors() -> None:
    method = OmniDrop(calibration="paper-30", input_stage="paper")
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
    plan = OmniDrop(calibration="paper-30", input_stage="paper", audio_ranking="chunk").plan(PromptInfo(LONG, 28))
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
    halves, grids = (run(OmniDrop(ttm_frames=frames, input_stage="paper"), LONG, 28) for frames in ("halves", "grids"))  # type: ignore[arg-type]
    assert not torch.equal(halves.entering, grids.entering)


@pytest.mark.parametrize(
    ("cells", "widths", "kind", "why"),
    [
        ((9, 16), None, "paper", "144 tokens a grid"),
        ((9, 16), (1280, 1280), "paper", "144 tokens a grid"),
        ((9, 16), (96, 96), "diverse", "not Qwen's own encoders"),
        ((8, 8), None, "paper", "64 tokens a grid"),
        ((7, 9), None, "diverse", "63 tokens a grid, under 64"),
        ((2, 4), (1280, 1280), "diverse", "8 tokens a grid, under 64"),
    ],
)
@pytest.mark.parametrize("frames", ["grids", "halves"])
def test_auto_runs_the_papers_input_where_it_was_made_for(
    tmp_path: Path, cells: tuple[int, int], widths: tuple[int, int] | None, kind: str, why: str, frames: str
) -> None:
    tokens = token_map((50,) * 4, (2,) * 4, cells=cells)
    checkpoint = None
    if widths is not None:
        config = {"audio_config": {"d_model": widths[0]}, "vision_config": {"hidden_size": widths[1]}}
        (tmp_path / "config.json").write_text(json.dumps({"thinker_config": config}))
        checkpoint = tmp_path
    info = PromptInfo(tokens, 28, checkpoint)
    plan = OmniDrop(keep=0.3, ttm_frames=frames).plan(info)  # type: ignore[arg-type]
    assert isinstance(plan.input_stage, MostDiverse if kind == "diverse" else IntraModality)
    assert plan.metadata is not None
    assert plan.metadata["input_stage"] == kind
    assert why in str(plan.metadata["input_stage_reason"])
    for preset in ("paper-30", "paper-20"):
        literal = get_method(PruningConfig("omnidrop", preset=preset)).plan(info)
        assert isinstance(literal.input_stage, IntraModality)


def test_the_diverse_input_keeps_as_many_tokens() -> None:
    paper, diverse = (run(OmniDrop(keep=0.3, input_stage=kind), LONG, 28) for kind in ("paper", "diverse"))  # type: ignore[arg-type]
    assert [len(kept) for kept in paper.leaving] == [len(kept) for kept in diverse.leaving]
    spelt = run(get_method(PruningConfig("divprune+omnidrop", keep=0.3, options={"fade": "4"})), LONG, 28)
    assert torch.equal(diverse.entering, spelt.entering)
    assert OmniDrop(input_stage="diverse").needs == frozenset()


def test_modalities_can_have_budgets_of_their_own() -> None:
    joint, quota = (run(OmniDrop(keep=0.3, modality=kind), LONG, 28) for kind in ("joint", "quota"))  # type: ignore[arg-type]
    assert [len(kept) for kept in joint.leaving] == [len(kept) for kept in quota.leaving]
    entering = (LONG.modality[quota.entering] == 1).mean()
    for kept in quota.leaving:
        assert abs((LONG.modality[kept] == 1).sum() - entering * len(kept)) <= 1
    assert any(not torch.equal(a, b) for a, b in zip(joint.leaving, quota.leaving, strict=True))


@given(st.integers(1, 60), st.integers(1, 60), st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_neither_modality_ever_grows(audio: int, video: int, shares: list[float]) -> None:
    keeps = [round(share * (audio + video)) for share in sorted(shares, reverse=True)]
    last = (audio, video)
    for keep, kept in zip(keeps, modality_counts((audio, video), tuple(keeps)), strict=True):
        assert 0 <= kept <= last[0]
        assert 0 <= keep - kept <= last[1]
        assert abs(kept - keep * audio / (audio + video)) <= 1
        last = (kept, keep - kept)


def test_quotas_keep_the_best_attended_of_each_modality() -> None:
    stage = QueryGuided((2,), "query", 14, 0.2, False, entering=(2, 2), audio_counts=(1,))
    view = view_with([0.4, 0.3, 0.2, 0.1], [0, 0, 0, 0], 0)
    view.modality = torch.tensor([1, 1, 2, 2])
    assert sorted(stage(view, 2).tolist()) == [0, 2]


def test_explicit_rates_run_as_they_are() -> None:
    plan = OmniDrop(p_final=0.2, input_stage="paper").plan(PromptInfo(LONG, 28))
    assert plan == OmniDrop(calibration="paper-30", input_stage="paper").plan(PromptInfo(LONG, 28))


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


@pytest.mark.parametrize("config", [None, "{", "[]", "{}", '{"thinker_config": 3}', '{"audio_config": {"d_model": 5}}'])
def test_a_configuration_that_cannot_be_read_is_taken_for_qwens(config: str | None, tmp_path: Path) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    plan = OmniDrop(keep=0.3).plan(PromptInfo(token_map((50,) * 4, (2,) * 4, cells=(12, 12)), 28, tmp_path))
    assert plan.metadata is not None
    assert plan.metadata["input_stage"] == "paper"
