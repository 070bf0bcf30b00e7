"""All stages train on a device of their own, and learn there what they learn on the CPU."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from omnidrop_cli.errors import EXIT_USAGE
from omnidrop_cli.nano import loop, train
from omnidrop_cli.nano.ahead import Lengths, Stream
from omnidrop_cli.nano.decoder import DecoderStage
from omnidrop_cli.nano.encoders import EncoderStage
from omnidrop_cli.nano.joint import JointStage
from omnidrop_cli.nano.selector import SelectorStage
from omnidrop_cli.nano.voices import VoiceBank
from tests.nano.elsewhere import Away, elsewhere, move

SHORT = (Lengths(1.0, 2, 4, 0.0, 2, 2),)

STAGES: dict[str, Callable[[Any, Any, VoiceBank], Any]] = {
    "encoders": lambda model, tokenizer, bank: EncoderStage(model, tokenizer, bank, (0,), clips=3),
    "decoder": lambda model, tokenizer, bank: DecoderStage(model, tokenizer, 3, clips=2, block_tokens=60),
    "joint": lambda model, tokenizer, bank: JointStage(model, tokenizer, Stream.of(model, tokenizer, bank, (0,), SHORT), 3, 60),
    "selector": lambda model, tokenizer, bank: SelectorStage(model, tokenizer, Stream.of(model, tokenizer, bank, (0,), SHORT), 3, 60),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_learns_elsewhere_what_it_learns_here(
    name: str, frozen_model: bytes, tokenizer: Any, bank: VoiceBank, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    plan = loop.Plan(2, 1e-3)
    stage = STAGES[name](pickle.loads(frozen_model), tokenizer, bank)
    with sdpa_kernel(SDPBackend.MATH):  # the selector's; the fused kernel of the CPU sums in another order than its plain form
        loop.run(stage, plan, here, say=lambda line: None)
    with elsewhere():
        model = pickle.loads(frozen_model)
        move(model)
        away = STAGES[name](model, tokenizer, bank)
        loop.run(away, plan, there, say=lambda line: None)
        for mine, theirs in zip(stage.optimiser.mean, away.optimiser.mean, strict=True):
            assert torch.equal(mine, theirs.held)
        assert loop.resume(away, here / f"{name}.pt")[0] == 2
        assert all(isinstance(weight, Away) for weight in (*away.optimiser.master, *away.optimiser.weights))


def test_a_tensor_elsewhere_refuses_one_from_here() -> None:
    with elsewhere():
        there = torch.ones(3, device="meta")
        assert float(there.sum()) == 3.0
        assert torch.equal(there.cpu(), torch.ones(3))
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3)


@pytest.mark.parametrize(("device", "told"), [("tpu", "unknown device"), ("mps", "not supported")])
def test_a_device_that_is_none_is_one_line(device: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["decoder", "--work", str(tmp_path), "--device", device]) == EXIT_USAGE
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 2


def test_one_process_trains_on_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omnidrop_cli.model.load.resolve_device", lambda name: torch.device("cuda"))
    assert train.main(["decoder", "--work", str(tmp_path), "--replicas", "2"]) == EXIT_USAGE
    assert "--device cpu" in capsys.readouterr().err
