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
from omnidrop_cli.nano.train import loop, recipe
from omnidrop_cli.nano.world.voices import VoiceBank
from tests.nano import stages
from tests.nano.elsewhere import Away, elsewhere, move


@pytest.mark.parametrize("build", [stages.encoders, stages.decoder, stages.joint, stages.selector])
def test_a_stage_learns_elsewhere_what_it_learns_here(
    build: Callable[..., Any], frozen_model: bytes, tokenizer: Any, bank: VoiceBank, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    plan = loop.StagePlan(2, 1e-3)
    stage = build(pickle.loads(frozen_model), tokenizer, bank)
    with sdpa_kernel(SDPBackend.MATH):  # the selector's; the fused kernel of the CPU sums in another order than its plain form
        loop.run(stage, plan, here, say=lambda line: None)
    with elsewhere():
        model = pickle.loads(frozen_model)
        move(model)
        away = build(model, tokenizer, bank)
        loop.run(away, plan, there, say=lambda line: None)
        for mine, theirs in zip(stage.optimiser.mean, away.optimiser.mean, strict=True):
            assert torch.equal(mine, theirs.held)
        assert loop.resume(away, here / f"{stage.name}.pt")[0] == 2
        assert all(isinstance(weight, Away) for weight in (*away.optimiser.master, *away.optimiser.weights))


def test_a_tensor_elsewhere_refuses_one_from_here() -> None:
    with elsewhere():
        there = torch.ones(3, device="meta")
        assert float(there.sum()) == 3.0
        assert torch.equal(there.cpu(), torch.ones(3))
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3)


@pytest.mark.parametrize(("device", "said"), [("tpu", "unknown device"), ("mps", "not supported")])
def test_a_device_that_is_none_is_one_line(device: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe.main(["decoder", "--work", str(tmp_path), "--device", device]) == EXIT_USAGE
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 2


def test_one_process_trains_on_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omnidrop_cli.model.load.resolve_device", lambda name: torch.device("cuda"))
    assert recipe.main(["decoder", "--work", str(tmp_path), "--replicas", "2"]) == EXIT_USAGE
    assert "--device cpu" in capsys.readouterr().err
