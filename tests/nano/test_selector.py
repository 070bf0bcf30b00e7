"""OmniSIFT's selector on a miniature model: the stage trains it and nothing else, stops and goes on, and what is exported is used."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from omnidrop_cli.nano.train import compare_selectors, loop, packed_forward
from omnidrop_cli.nano.train.labels import MediaLabels, label
from omnidrop_cli.nano.train.prefetch import Drawn, Seen
from omnidrop_cli.nano.train.selector_stage import _with_some_others, sift
from omnidrop_cli.nano.train.write_checkpoint import export
from omnidrop_cli.nano.world import benchmark
from omnidrop_cli.nano.world.scenario import Profile, sample
from omnidrop_cli.nano.world.voices import VoiceBank
from omnidrop_cli.prompt.spec import PromptSpec
from omnidrop_cli.prune.audio_selector import AudioSelector, has_selector, load_selector
from tests.nano.stages import selector as stage


def clip(spec: PromptSpec, **profile: float) -> tuple[MediaLabels, torch.Tensor]:
    labels = label(sample(np.random.default_rng(1), Profile(4, 4, **profile)), spec)  # type: ignore[arg-type]
    return labels, torch.randn(len(labels), 64, generator=torch.Generator().manual_seed(0))


def test_only_the_selector_learns_and_a_stopped_run_goes_on(frozen_model: bytes, tokenizer: Any, bank: VoiceBank, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model = pickle.loads(frozen_model)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    first = stage(model, tokenizer, bank)
    start = {name: weight.clone() for name, weight in first.selector.state_dict().items()}
    assert loop.run(first, loop.StagePlan(2, 1e-2, every=1), tmp_path, say=lambda line: None)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    moved = [name for name, weight in first.selector.state_dict().items() if not torch.equal(start[name], weight)]
    assert len(moved) == len(start)
    assert (tmp_path / "curve.jsonl").read_text().count('"stage": "selector"') == 2
    second = stage(model, tokenizer, bank)
    assert loop.resume(second, tmp_path / "selector.pt")[0] == 2
    assert second.optimiser.steps == 2
    for name, weight in second.selector.state_dict().items():
        assert torch.equal(weight, first.selector.state_dict()[name])
    export(model, tokenizer, tmp_path / "out", second.selector)
    assert has_selector(tmp_path / "out")
    stored = load_selector(str(tmp_path / "out"))
    assert torch.equal(stored.a_proj.weight, second.selector.a_proj.weight.detach().bfloat16().float())
    assert sum(file.stat().st_size for file in (tmp_path / "out").glob("selector.*")) < 400_000
    export(model, tokenizer, tmp_path / "out")
    assert not list((tmp_path / "out").glob("selector.*")), "one trained for other weights does not stay"


def test_a_step_of_silent_clips_is_a_step(
    frozen_model: bytes, tokenizer: Any, bank: VoiceBank, spec: PromptSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    one = stage(pickle.loads(frozen_model), tokenizer, bank)
    timeline = sample(np.random.default_rng(1), Profile(4, 4, silent=1.0))
    labels = label(timeline, spec)
    silent = Drawn((Seen(timeline, labels, torch.randn(len(labels), 64, dtype=torch.bfloat16)),), None)
    monkeypatch.setattr(one._clips, "take", lambda step: silent)
    one.step(np.random.default_rng(0), 0.0)
    assert all(weight.grad is not None and not weight.grad.any() for weight in one.selector.parameters())


@pytest.mark.parametrize("profile", [{"silent": 0.0, "sound_only": 0.0}, {"silent": 1.0}, {"silent": 0.0, "sound_only": 1.0}])
def test_sifting_keeps_what_the_method_keeps(spec: PromptSpec, profile: dict[str, float]) -> None:
    from omnidrop_cli.prune.base import InputView, PromptInfo
    from omnidrop_cli.prune.methods.omnisift import OmniSift

    labels, media = clip(spec, **profile)
    stays, scores = sift(labels, media, None, 0.3)
    plan = OmniSift(keep=0.3, selector="untrained").plan(PromptInfo(labels.block.tokens, 4))
    assert plan.input_stage is not None
    audio = torch.from_numpy(labels.audio)
    chosen = plan.input_stage(InputView(labels.block.tokens, media[audio], media[~audio], media[:0]))
    assert torch.equal(stays[audio].nonzero()[:, 0], chosen.audio)
    assert torch.equal(stays[~audio].nonzero()[:, 0], chosen.video)
    assert (scores[~audio] == 1).all()


def test_what_is_given_with_what_stays_is_audio_that_goes(spec: PromptSpec) -> None:
    labels, media = clip(spec, silent=0.0, sound_only=0.0)
    stays, _ = sift(labels, media, AudioSelector(64, 128), 0.2)
    given = _with_some_others(stays, labels.audio, np.random.default_rng(0))
    others = given[~stays.numpy()[given]]
    assert set(stays.nonzero()[:, 0].tolist()) <= set(given.tolist())
    assert labels.audio[others].all()
    assert len(others) == int((labels.audio & stays.numpy()).sum())


@torch.no_grad()
def test_tokens_that_go_are_as_if_they_were_not_there(model: Any) -> None:
    text = model.model.language_model
    generator = torch.Generator().manual_seed(0)
    hidden, low = torch.randn(1, 16, 64, generator=generator), torch.randn(1, 4, 64, generator=generator)
    places, media = torch.arange(16).expand(3, 1, 16), torch.ones(1, 16, dtype=torch.bool)
    media[:, :3] = False
    valid = torch.ones_like(media)
    stays = torch.rand(1, 16, generator=generator) < 0.5
    stays[:, :3] = True
    blocks = packed_forward.Blocks(low, torch.arange(16, 20).expand(3, 1, 4), torch.ones(1, 4, 4, dtype=torch.bool).tril())
    choice = torch.stack([stays.float(), torch.rand(1, 16, generator=generator)])
    gated = packed_forward.run(model, packed_forward.Shared(hidden, places, valid, media, choice), blocks)
    there = stays[0]
    cut = packed_forward.Shared(hidden[:, there], places[:, :, there], valid[:, there], media[:, there])
    torch.testing.assert_close(gated, packed_forward.run(model, cut, blocks), rtol=1e-4, atol=1e-4)
    assert len(text.layers) == 4


def test_the_comparison_is_paired() -> None:
    questions = [q for q in benchmark.questions() if q.scoring == "exact"][:4]
    right = [(q, q.answer) for q in questions]
    half = [(q, q.answer if n < 2 else "") for n, q in enumerate(questions)]
    assert compare_selectors.line(0.3, right, half).split() == ["0.3", "1.000", "0.500", "2", "0", "0.5"]
