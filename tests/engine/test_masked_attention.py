"""Masked attention over whole buffers equals attention to the rows that were written."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from omnidrop_cli.engine.masked_attention import masked_attention


def inputs(heads: int, groups: int, blocks: int, size: int, written: int, seed: int) -> tuple[torch.Tensor, ...]:
    noise = torch.Generator().manual_seed(seed)
    query = 3 * torch.randn(1, heads * groups, 1, size, generator=noise, dtype=torch.float64)
    keys, values = torch.randn(2, 1, groups, 64 * blocks, size, generator=noise, dtype=torch.float64)
    mask = torch.full((64 * blocks,), float("-inf"))
    mask[:written] = 0
    return query, keys, values, mask


@given(st.data())
def test_equals_attention_to_the_written_rows(data: st.DataObject) -> None:
    blocks = data.draw(st.integers(1, 12), "blocks of 64 rows")
    written = data.draw(st.integers(1, 64 * blocks), "written rows")
    heads, groups = data.draw(st.integers(1, 7), "heads per group"), data.draw(st.integers(1, 4), "groups")
    query, keys, values, mask = inputs(heads, groups, blocks, 16, written, data.draw(st.integers(0, 99), "seed"))
    expected = scaled_dot_product_attention(query, keys[:, :, :written], values[:, :, :written], scale=0.25, enable_gqa=True)
    found = masked_attention(query.float(), keys.float(), values.float(), mask, 0.25)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("blocks", [1, 2, 4, 6, 165])
def test_in_bfloat16_it_is_as_exact_as_sdpa(blocks: int) -> None:
    query, keys, values, mask = inputs(7, 4, blocks, 128, 64 * blocks - 9, 0)
    rows = 64 * blocks - 9
    half = [tensor.bfloat16() for tensor in (query, keys, values)]
    exact = scaled_dot_product_attention(
        half[0].double(), half[1][:, :, :rows].double(), half[2][:, :, :rows].double(), scale=128**-0.5, enable_gqa=True
    )
    stock = scaled_dot_product_attention(half[0], half[1][:, :, :rows], half[2][:, :, :rows], scale=128**-0.5, enable_gqa=True)
    error = (masked_attention(*half, mask, 128**-0.5).double() - exact).abs().max()
    assert error <= 2 * (stock.double() - exact).abs().max()


def test_what_is_masked_weighs_nothing() -> None:
    query, keys, values, mask = (tensor.float() for tensor in inputs(2, 2, 3, 16, 70, 5))
    expected = masked_attention(query, keys, values, mask, 0.25)
    values[:, :, 70:] = 1e30
    keys[:, :, 70:] = 1e3
    assert torch.equal(masked_attention(query, keys, values, mask, 0.25), expected)
