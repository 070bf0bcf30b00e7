"""The kernel of distances against PyTorch's passes: by Triton's interpreter on a CPU, by itself on a GPU."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from omnidrop_cli import kernels
from omnidrop_cli.prune import distances
from omnidrop_cli.prune.distances import Tokens

pytest.importorskip("triton")

DEVICE = "cuda:0" if torch.cuda.is_available() else "cpu"


def tokens(groups: int, size: int, dtype: torch.dtype, timed: bool, missing: int) -> Tokens:
    generator = torch.Generator().manual_seed(size)
    count = groups * size - missing
    features = (torch.randn(count, 16, generator=generator) * 3).to(dtype).to(DEVICE)
    when: Tensor | None = torch.rand(count, generator=generator).to(DEVICE) * 5 if timed else None
    token = torch.arange(groups * size, device=DEVICE).view(groups, size)
    return Tokens.of(features, token, token < count, None, when)


@pytest.mark.parametrize(("dtype", "timed"), list(product([torch.float32, torch.bfloat16], [False, True])))
@pytest.mark.parametrize(("groups", "size", "missing"), [(1, 1, 0), (3, 17, 2), (1, 300, 0)])
def test_distances_are_those_of_the_passes(
    dtype: torch.dtype, timed: bool, groups: int, size: int, missing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = tokens(groups, size, dtype, timed, missing)
    first, second = every.take(slice(0, max(1, size - 3))), every.take(torch.arange(size, device=DEVICE).flip(0))
    monkeypatch.setattr(kernels, "runs_on", lambda _: False)
    expected = distances.between(first, second)
    monkeypatch.setattr(kernels, "runs_on", lambda _: True)
    torch.testing.assert_close(distances.between(first, second), expected, rtol=0, atol=2e-6)
