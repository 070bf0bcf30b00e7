"""Stages never ask the device for a value: they run on meta tensors, which have none to give.

On a GPU such a question makes the host wait; on the meta device it is an error. So this test needs no GPU.
Diverse input over a group too large for all its distances (more than 11,585 tokens) asks once for every block of candidates and for every
run of picks: `test_lazy_greedy.py` counts that. Recording a CUDA graph waits, too, once for a selection.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from omnidrop_cli.config import PruningConfig
from omnidrop_cli.prune import scoring
from omnidrop_cli.prune.audio_selector import untrained_selector
from omnidrop_cli.prune.base import LayerSelection, PromptInfo
from omnidrop_cli.prune.methods import get_method, names
from tests.prune.fakes import SHAPES, FakeView, input_view, made

LONG = SHAPES["long"]


class MetaView(FakeView):
    @property
    def hidden(self) -> torch.Tensor:
        return torch.empty(len(self.index), self.dim, device="meta")

    @property
    def text_hidden(self) -> torch.Tensor:
        return torch.empty(7, self.dim, device="meta")

    def attention(self, queries: str = "query") -> torch.Tensor:
        return torch.empty(len(self.index), device="meta")


@pytest.mark.parametrize("name", [*(name for name in names() if name != "none"), "omnizip+omnidrop"])
@pytest.mark.parametrize("shape", ["long", "sound", "picture"])
def test_stages_do_not_wait(name: str, shape: str) -> None:
    tokens = SHAPES[shape]
    plan = made(name).plan(PromptInfo(tokens, 28))
    if plan.input_stage is not None:
        view = input_view(tokens)
        tensors = ("audio", "video", "query", "audio_attention", "video_attention")
        try:
            selection = plan.input_stage(replace(view, **{field: getattr(view, field).to("meta") for field in tensors}))
        finally:
            untrained_selector.cache_clear()  # it went along to the meta device
        assert selection.audio.is_meta or name.startswith("random")
    alive = tokens.counts().media
    for layer in range(28):
        keep = plan.in_llm_stage.keep_count(layer, alive) if plan.in_llm_stage else alive
        if plan.in_llm_stage and keep < alive:
            meta = torch.empty(alive, dtype=torch.int64, device="meta")
            chosen = plan.in_llm_stage(MetaView(layer, 28, meta.to(torch.int8), meta, meta, len(tokens), 16), keep)
            assert len(chosen.index if isinstance(chosen, LayerSelection) else chosen) == keep
        alive = keep


@pytest.mark.parametrize("name", ["omnizip", "dash"])
def test_half_grids_do_not_wait(name: str) -> None:
    plan = get_method(PruningConfig(name, keep=0.3, options={"frames": "halves"})).plan(PromptInfo(LONG, 28))
    assert plan.input_stage is not None
    view = input_view(LONG)
    meta = {field: getattr(view, field).to("meta") for field in ("audio", "video", "query", "audio_attention", "video_attention")}
    assert plan.input_stage(replace(view, **meta)).video.is_meta


def test_scores_do_not_wait() -> None:
    meta = torch.empty(4, 3, 8, device="meta")
    rows = torch.empty(3, dtype=torch.int64, device="meta")
    got = scoring.attention_received(meta, torch.empty(2, 50, 8, device="meta"), rows, scale=1.0, targets=rows)
    assert got.shape == (3,)


def test_an_indexing_scalar_would_be_noticed() -> None:
    with pytest.raises(RuntimeError):
        torch.empty(5, device="meta")[torch.empty(5, device="meta").argmax()]
