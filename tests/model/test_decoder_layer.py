"""The rotary embedding of a GPU, which rounds once less than the formula."""

from __future__ import annotations

import pytest
import torch

from omnidrop_cli.model.decoder_layer import add_rotated, rotate


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fused_rotation_is_the_formula(dtype: torch.dtype) -> None:
    noise = torch.Generator().manual_seed(0)
    x = torch.randn(1, 9, 6, 16, generator=noise).to(dtype).transpose(1, 2)  # in memory as projections leave it
    half = torch.randn(1, 9, 8, generator=noise)
    cos, sin = (torch.cat((turn, turn), -1).to(dtype) for turn in (half.cos(), half.sin()))
    exact = rotate(x.double(), (cos.double(), sin.double()))
    before = x.clone()
    found = add_rotated(x * cos[:, None], x, sin[:, None])
    assert torch.equal(x, before)
    assert found.dtype == dtype
    error, of_formula = ((some.double() - exact).abs() for some in (found, rotate(x, (cos, sin))))
    assert error.mean() <= of_formula.mean() * 1.01
    assert error.max() <= exact.abs().max() * torch.finfo(dtype).eps
