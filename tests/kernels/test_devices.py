"""Kernels run on the device of their tensors, not on the one that happens to be current: Triton takes the current one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from omnidrop_cli.kernels.nf4_weights import NF4Weights

pytest.importorskip("triton")
from omnidrop_cli.kernels.cosine_distances import to_distances
from omnidrop_cli.kernels.many_rows import activate, rotate, unpack
from omnidrop_cli.kernels.picks import pick

DEVICE = "cuda:0" if torch.cuda.is_available() else "cpu"


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, device=DEVICE)


LAUNCHES: dict[str, Callable[[], object]] = {
    "pick": lambda: pick(zeros(1, 4, 4), zeros(1, 4), 2),
    "to_distances": lambda: to_distances(zeros(1, 4, 4), zeros(1, 1, 4), zeros(1, 1, 4)),
    "unpack": lambda: unpack(NF4Weights(zeros(8).int(), zeros(16), zeros(1), None, None, 1, 64), zeros(1, 64)),
    "rotate": lambda: rotate(zeros(3, 2, 16), zeros(3, 16), zeros(3, 16), 1),
    "activate": lambda: activate(zeros(8), zeros(8)),
}


@pytest.mark.parametrize("name", LAUNCHES)
def test_the_device_of_the_tensors_is_current_during_a_launch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    of: list[str] = []
    device_of = torch.cuda.device_of

    def recorded(tensor: Tensor) -> torch.cuda.device_of:
        of.append(str(tensor.device))
        return device_of(tensor)

    monkeypatch.setattr(torch.cuda, "device_of", recorded)
    LAUNCHES[name]()
    assert of == [DEVICE]
