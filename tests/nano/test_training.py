"""The recipe runs, stops and goes on; what can go wrong is one line and loses nothing."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.nano.train import loop, recipe
from omnidrop_cli.nano.train.answer_loss import AnswerScore, early_loss
from omnidrop_cli.nano.train.decoder_stage import DecoderStage, climb, forward
from omnidrop_cli.nano.train.encoder_stage import EncoderStage, stranger
from omnidrop_cli.nano.train.labels import label
from omnidrop_cli.nano.train.prefetch import ClipMaker, Stream
from omnidrop_cli.nano.train.samples import Packer, TrainingSample
from omnidrop_cli.nano.train.write_checkpoint import export
from omnidrop_cli.nano.world.questions import ask
from omnidrop_cli.nano.world.scenario import Profile, sample
from omnidrop_cli.nano.world.voices import VoiceBank
from omnidrop_cli.prompt.spec import PromptSpec
from tests.nano import stages


def _weights(stage: Any) -> list[torch.Tensor]:
    return [w.clone() for w in stage.optimiser.master]


def _run(stage: Any, steps: int, work: Path, total: int = 4) -> None:
    """Train up to `steps` of a plan of `total`, as if killed there."""
    inner, calls = stage.step, []

    def step(rng: np.random.Generator, progress: float) -> tuple[float, list[tuple[str, bool]]]:
        if len(calls) + start == steps:
            raise KeyboardInterrupt
        calls.append(1)
        result: tuple[float, list[tuple[str, bool]]] = inner(rng, progress)
        return result

    start = loop.resume(stage, work / f"{stage.name}.pt")[0]
    stage.step = step
    loop.run(stage, loop.StagePlan(total, 1e-3, every=2), work, say=lambda line: None)


def test_a_resumed_run_is_an_unbroken_run(frozen_model: bytes, tokenizer: Any, tmp_path: Path) -> None:
    """Question kinds are balanced by what was asked so far, which a restart forgets: only the losses' draws must agree here."""

    def stage() -> DecoderStage:
        return stages.decoder(pickle.loads(frozen_model), tokenizer)

    torch.set_num_threads(1)
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    unbroken.mkdir()
    broken.mkdir()
    whole = stage()
    _run(whole, 4, unbroken)
    first = stage()
    _run(first, 2, broken)
    middle = _weights(first)
    second = stage()
    assert loop.resume(second, broken / "decoder.pt")[0] == 2
    assert all(torch.equal(a, b) for a, b in zip(middle, _weights(second), strict=True))
    _run(second, 4, broken)
    assert loop.resume(stage(), broken / "decoder.pt")[0] == 4
    assert (broken / "curve.jsonl").read_text().count("\n") == 2


def test_all_stages_learn_and_export(frozen_model: bytes, tokenizer: Any, bank: VoiceBank, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model = pickle.loads(frozen_model)
    trained = (
        stages.encoders(model, tokenizer, bank),
        stages.decoder(model, tokenizer),
        stages.joint(model, tokenizer, bank),
    )
    for stage in trained:
        before = _weights(stage)
        assert loop.run(stage, loop.StagePlan(2, 1e-3, every=1), tmp_path, say=lambda line: None)
        moved = sum(not torch.equal(a, b) for a, b in zip(before, _weights(stage), strict=True))
        assert moved > 0.9 * len(before), f"{stage.name} trains its weights"
    export(model, tokenizer, tmp_path / "out")
    from transformers import AutoTokenizer, Qwen2_5OmniThinkerForConditionalGeneration

    loaded = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(str(tmp_path / "out"), dtype=torch.bfloat16)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, loaded.state_dict()[name]), name
    assert AutoTokenizer.from_pretrained(str(tmp_path / "out")).eos_token == "<|im_end|>"
    assert loaded.config.vision_start_token_id == tokenizer.convert_tokens_to_ids("<|vision_bos|>")
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in loaded.generation_config.eos_token_id


def test_early_answers_teach_the_lower_layers_alone(frozen_model: bytes, tokenizer: Any) -> None:
    model = pickle.loads(frozen_model)
    spec = PromptSpec.from_config(model.config, tokenizer)
    timeline = sample(np.random.default_rng(0), Profile(3, 3, silent=0.0, sound_only=0.0))
    labels = label(timeline, spec)
    asked = tuple(ask(timeline, np.random.default_rng(1))[:4])
    batch = Packer(tokenizer).collate([TrainingSample(timeline, labels, np.arange(len(labels)), asked)])
    text = model.model.language_model
    media = torch.randn(len(labels), text.config.hidden_size)
    low = list(climb(model, batch, media, None))
    assert torch.equal(text.norm(low[-1]), forward(model, batch, media, None))
    early_loss(text.norm(low[1]), model.lm_head, batch).backward()
    taught = [any(w.grad is not None and bool(w.grad.any()) for w in layer.parameters()) for layer in text.layers]
    assert taught == [True, True, False, False]


def test_encoders_hear_windows_that_begin_anywhere(frozen_model: bytes, tokenizer: Any, bank: VoiceBank) -> None:
    """Clips begin with a scene, so windows of whole clips hardly ever cut a word; those of longer clips cut one in six."""
    stage = EncoderStage(pickle.loads(frozen_model), tokenizer, bank, (0,), clips=2)
    heard = set()
    for seed in range(4):
        rng = np.random.default_rng(seed)
        timelines = [sample(rng, Profile(4, 4, silent=0.0, sound_only=0.0), bank.take) for _ in range(2)]
        tokens, classes, weights = stage._encode(timelines, rng)
        assert len(tokens) == len(classes) == len(weights)
        heard.add(len(tokens) - sum(t.grids * t.cells[0] * t.cells[1] for t in timelines))
    assert len(heard) > 1
    assert max(heard) <= 2 * 4 * 25


def test_clips_made_ahead_are_clips_made_on_demand(frozen_model: bytes, tokenizer: Any, bank: VoiceBank) -> None:
    model = pickle.loads(frozen_model)
    maker = ClipMaker(model, PromptSpec.from_config(model.config, tokenizer), bank, (0,), stages.SHORT)
    ahead, demand = Stream(maker, 7, workers=1), Stream(maker, 7, workers=0)
    for step in range(3, 6):
        made, wanted = ahead.take(step), demand.take(step)
        assert made.budget == wanted.budget
        assert [clip.timeline for clip in made.clips] == [clip.timeline for clip in wanted.clips]
        for one, other in zip(made.clips, wanted.clips, strict=True):
            torch.testing.assert_close(one.media, other.media)


def test_a_damaged_state_is_named(frozen_model: bytes, tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "decoder.pt").write_bytes(b"half a file")
    stage = DecoderStage(pickle.loads(frozen_model), tokenizer, 3)
    with pytest.raises(OmnidropError, match=r"decoder\.pt"):
        loop.resume(stage, tmp_path / "decoder.pt")


def test_a_full_disk_keeps_the_last_state(frozen_model: bytes, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stages.decoder(pickle.loads(frozen_model), tokenizer)
    loop.run(stage, loop.StagePlan(1, 1e-3), tmp_path, say=lambda line: None)
    kept = (tmp_path / "decoder.pt").read_bytes()

    def full(state: object, file: Path) -> None:
        file.write_bytes(b"a part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OmnidropError, match="No space left"):
        loop.run(stage, loop.StagePlan(2, 1e-3), tmp_path, say=lambda line: None)
    assert (tmp_path / "decoder.pt").read_bytes() == kept
    assert not list(tmp_path.glob("*.part"))


def test_command_line_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert recipe.main(["voices", "--work", str(tmp_path)]) == 1
    assert capsys.readouterr().err.splitlines() == ["error: espeak-ng is not installed", "hint: apt-get install espeak-ng"]
    assert recipe.main(["joint", "--work", str(tmp_path)]) == 1
    assert "this voice is not in the cache" in capsys.readouterr().err
    assert recipe.main(["export", "--work", str(tmp_path)]) == 1
    assert "has not been trained yet" in capsys.readouterr().err
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert recipe.main(["voices", "--work", str(blocked / "under")]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_scores_count_by_kind() -> None:
    score = AnswerScore()
    score.add([("said", True), ("said", False), ("shown", True)])
    assert score.line() == "said=0.50 shown=1.00"
    assert score.mean() == 0.75


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
@settings(max_examples=50)
def test_a_stranger_says_the_same_with_other_formants(seed: int, bend: float) -> None:
    """Frequencies move, their order stays, and so do the ends of the scale, the levels and the time."""
    ramp = torch.arange(128.0)[:, None].expand(128, 3)
    moved = stranger(ramp, np.random.default_rng(seed), bend)
    assert moved.shape == ramp.shape
    assert (moved.diff(dim=0) > 0).all()
    torch.testing.assert_close(moved[[0, -1]], ramp[[0, -1]])
    if bend == 0:
        torch.testing.assert_close(moved, ramp)
    elif bend > 0.1:
        assert (moved - ramp).abs().max() > 0.1
