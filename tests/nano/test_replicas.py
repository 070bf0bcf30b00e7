"""Processes that train together take the step of their gradients' mean, and leave one state and one curve."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from omnidrop_cli.nano.train import recipe
from omnidrop_cli.nano.train.replicas import Replicas

ONE_OF_TWO = """
import sys, torch
from omnidrop_cli.nano.train.replicas import Replicas
rank, meeting = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
weight, idle = torch.zeros(2, 3, dtype=torch.bfloat16), torch.zeros(4)
weight.grad = torch.full((2, 3), float(rank + 1), dtype=torch.bfloat16)
Replicas(rank, 2).share([weight, idle])
drawn = torch.full((3,), float(rank + 7), requires_grad=True)
Replicas(rank, 2).agree([drawn])
print(sorted(set(weight.grad.flatten().tolist())), idle.grad, drawn.tolist())
"""


def test_gradients_become_their_mean_and_weights_the_leaders(tmp_path: Path) -> None:
    meeting = (tmp_path / "meeting").as_uri()
    both = [
        subprocess.Popen([sys.executable, "-c", ONE_OF_TWO, str(rank), meeting], stdout=subprocess.PIPE, text=True) for rank in range(2)
    ]
    assert [one.communicate(timeout=60)[0].strip() for one in both] == ["[1.5] None [7.0, 7.0, 7.0]"] * 2


def test_alone_changes_nothing() -> None:
    weight = torch.zeros(2)
    weight.grad = torch.tensor([1.0, 3.0])
    alone = Replicas()
    alone.share([weight])
    assert weight.grad.tolist() == [1.0, 3.0]
    assert alone.leads
    assert alone.seed(7) == 7
    assert len({Replicas(rank, 4).seed(0) for rank in range(4)}) == 4


@pytest.mark.slow
def test_two_processes_train_a_stage(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "omnidrop_cli.nano.train",
        "decoder",
        "--work",
        str(tmp_path),
        "--steps",
        "2",
        "--replicas",
        "2",
    ]
    assert subprocess.run(command, capture_output=True, timeout=300).returncode == 0
    assert torch.load(tmp_path / "decoder.pt", weights_only=True)["step"] == 2
    (line,) = (tmp_path / "curve.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == 2


def test_replicas_below_one_are_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe.main(["decoder", "--work", str(tmp_path), "--replicas", "0"]) == 2
    assert "--replicas" in capsys.readouterr().err


def test_what_is_missing_is_reported_once(tmp_path: Path) -> None:
    """The encoders' stage wants voices; two processes must not both say so."""
    command = [
        sys.executable,
        "-m",
        "omnidrop_cli.nano.train",
        "encoders",
        "--work",
        str(tmp_path),
        "--steps",
        "2",
        "--replicas",
        "2",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr.count("error:") == 1
