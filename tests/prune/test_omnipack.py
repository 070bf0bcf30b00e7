"""OmniPack against the slow form of its published code, on random prompts, and its memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from omnidrop_cli.config import PruningConfig
from omnidrop_cli.prune import packing
from omnidrop_cli.prune.base import LayerSelection, PromptInfo
from omnidrop_cli.prune.cosines import Directions
from omnidrop_cli.prune.methods import get_method, omnipack
from omnidrop_cli.prune.methods.omnipack import CutAndMerge, OmniPack, cut_layer, event_bias
from tests.prune import published, published_omnipack
from tests.prune.fakes import FakeView, input_view, run

GRIDS, CELLS, SIZE, AUDIO = 6, (3, 4), 12, 60
TOKENS = published.timed_map(0.4, GRIDS, AUDIO, CELLS)
PLACES = [[g / (GRIDS - 1), h / 2, w / 3] for g in range(GRIDS) for h in range(3) for w in range(4)]


@pytest.mark.parametrize("seed", range(20))
def test_stage_one_equals_the_slow_form(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "BLOCK", (400, 1 << 24)[seed % 2])
    video, audio = (published.scenes if seed % 4 < 2 else published.noise)(GRIDS, SIZE, AUDIO, seed=seed)
    view = replace(input_view(TOKENS, dim=24, seed=seed), video=video.flatten(0, 1), audio=audio)
    assert view.video_attention is not None
    assert view.audio_attention is not None
    plan = get_method(PruningConfig("omnipack", preset="paper-25")).plan(PromptInfo(TOKENS, 28))
    assert plan.input_stage is not None
    chosen = plan.input_stage(view)
    assert chosen.video_embeds is not None
    assert chosen.audio_embeds is not None
    keep = round(0.2 * 72)
    salience = published_omnipack.video_salience(video, view.video_attention, keep / 72)
    kept = published_omnipack.pool(view.video, PLACES, salience, keep, 0.25)
    assert chosen.video.tolist() == kept
    torch.testing.assert_close(
        chosen.video_embeds, published_omnipack.merge(view.video, PLACES, salience, kept, 0.1, 0.62), atol=1e-4, rtol=1e-4
    )
    places = [[i / (AUDIO - 1)] for i in range(AUDIO)]
    salience = published_omnipack.audio_salience(audio, view.audio_attention)
    kept = published_omnipack.pool(audio, places, salience, round(0.55 * AUDIO), 0.35)
    assert chosen.audio.tolist() == kept
    torch.testing.assert_close(
        chosen.audio_embeds, published_omnipack.merge(audio, places, salience, kept, 0.05, 0.65), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("seed", range(20))
def test_stage_two_equals_the_slow_form(seed: int) -> None:
    view = FakeView(17, 28, torch.tensor([2, 1, 2, 2] * 8), torch.zeros(32), torch.arange(32), 32, 12)
    view.layer = seed  # the states are drawn by layer
    chosen = CutAndMerge(17, (8, 24), (3, 10))(view, 13)
    assert isinstance(chosen, LayerSelection)
    of_audio, of_video = (view.modality == 1).nonzero()[:, 0], (view.modality == 2).nonzero()[:, 0]
    index, states = [], []
    for own, other, keep in ((of_audio, of_video, 3), (of_video, of_audio, 10)):
        kept, merged = published_omnipack.cut(view.hidden[own], view.hidden[other], view.text_hidden, keep)
        index += own[kept].tolist()
        states.append(merged)
    assert chosen.index.tolist() == index
    torch.testing.assert_close(chosen.hidden, torch.cat(states), atol=1e-4, rtol=1e-4)


def test_the_cut_is_where_it_was_published() -> None:
    assert (cut_layer(28), cut_layer(36)) == (17, 25)
    tokens = published.timed_map(1.0, 10, 250, (9, 16))
    done = run(get_method(PruningConfig("omnipack", preset="paper-25")), tokens, 28)
    counts = [len(kept) for kept in done.leaving]
    assert counts[:17] == [round(0.55 * 250) + round(0.2 * 1440)] * 17
    assert counts[17:] == [round(0.275 * 250 + 0.1 * 1440)] * 11


def test_options_are_the_papers_text() -> None:
    literal, code = (get_method(PruningConfig("omnipack", keep=0.1, options=options)) for options in ({"cues": "add", "centre": "0"}, {}))
    stages = [method.plan(PromptInfo(TOKENS, 28)).input_stage for method in (literal, code)]
    view = input_view(TOKENS, dim=24)
    first, second = (stage(view) for stage in stages if stage is not None)
    assert first.video_embeds is not None
    assert second.video_embeds is not None
    assert first.video.tolist() != second.video.tolist() or not torch.allclose(first.video_embeds, second.video_embeds)


class Largest(TorchDispatchMode):
    """The number of values in the largest tensor that any operation gave."""

    values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        for tensor in given if isinstance(given, (tuple, list)) else (given,):
            if isinstance(tensor, torch.Tensor):
                self.values = max(self.values, tensor.numel())
        return given


def test_no_tensor_holds_all_pairs_or_all_features(monkeypatch: pytest.MonkeyPatch) -> None:
    n, dim, kept = 3000, 64, 600
    monkeypatch.setattr(packing, "BLOCK", 40_000)
    features, places, salience = torch.randn(n, dim), torch.rand(n, 3), torch.rand(n)
    with Largest() as largest:
        packing.centre_scores(features, torch.arange(n), places, salience)
        packing.merge_into_kept(features, torch.arange(kept), torch.arange(kept, n), places, salience, weight=0.1, centre=0.6)
    assert largest.values <= packing.BLOCK < n * dim < n * n / 40


@pytest.mark.parametrize("frames", [2, 3, 4])
def test_event_bias_of_few_frames(frames: int) -> None:
    video = torch.randn(frames, 6, 8, generator=torch.Generator().manual_seed(frames))
    torch.testing.assert_close(event_bias(video).flatten(), torch.tensor(published_omnipack.event_bias(video)), atol=1e-5, rtol=1e-5)


def test_event_bias_copies_a_few_frames_at_a_time() -> None:
    frames = torch.randn(100, 4, 32, generator=torch.Generator().manual_seed(0))
    with Largest() as largest:
        bias = event_bias(frames)
    assert largest.values < frames.numel() / 4
    torch.testing.assert_close(bias.flatten(), torch.tensor(published_omnipack.event_bias(frames)), atol=1e-5, rtol=1e-5)


def test_the_ratios_between_budgets_are_those_of_the_presets() -> None:
    presets = [{str(name): value for name, value in preset.items()} for preset in OmniPack.presets.values()]
    assert sorted(OmniPack.ratios) == sorted((preset["video_keep"], preset["audio_keep"]) for preset in presets)


def test_without_text_and_another_modality_density_is_left() -> None:
    own = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    found = omnipack.relevance_of(own, own[:0], Directions.of(own[:0]), torch.zeros(4))
    unit = own / own.norm(dim=1, keepdim=True)
    density = (unit @ unit.T).mean(dim=1).exp()
    expected = (density - density.min()) / (density.max() - density.min())
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_one_token_is_its_own_centre() -> None:
    one = torch.ones(1, 4)
    assert packing.centre_scores(one, torch.tensor([0]), torch.zeros(1, 3), torch.zeros(1)).tolist() == [1.0]
