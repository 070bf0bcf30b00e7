"""Attention received, against the whole materialised matrix."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from omnidrop_cli.prune import scoring
from omnidrop_cli.prune.scoring import attention_received


def materialised(queries: Tensor, keys: Tensor, rows: Tensor, scale: float, targets: Tensor) -> Tensor:
    keys = keys.repeat_interleave(queries.shape[0] // keys.shape[0], dim=0)
    logits = queries @ keys.transpose(1, 2) * scale
    for r, position in enumerate(rows.tolist()):
        logits[:, r, position + 1 :] = float("-inf")
    return logits.softmax(-1).mean(dim=(0, 1))[targets]


@settings(max_examples=40)
@given(
    groups=st.integers(1, 3),
    per_group=st.integers(1, 4),
    head_dim=st.integers(1, 8),
    n=st.integers(1, 30),
    limit=st.integers(1, 200),
    data=st.data(),
)
def test_equals_the_materialised_version(groups: int, per_group: int, head_dim: int, n: int, limit: int, data: st.DataObject) -> None:
    rows = torch.tensor(sorted(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=8, unique=True))))
    targets = torch.tensor(data.draw(st.lists(st.integers(0, n - 1), max_size=10)), dtype=torch.int64)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    queries = torch.randn(groups * per_group, len(rows), head_dim, generator=generator)
    keys = torch.randn(groups, n, head_dim, generator=generator)
    whole = scoring.MAX_LOGITS
    scoring.MAX_LOGITS = limit  # forces blocks of a few rows
    try:
        got = attention_received(queries, keys, rows, scale=0.7, targets=targets)
    finally:
        scoring.MAX_LOGITS = whole
    torch.testing.assert_close(got, materialised(queries, keys, rows, 0.7, targets))


def test_reads_half_precision_in_float32() -> None:
    torch.manual_seed(0)
    queries, keys = torch.randn(4, 3, 16).bfloat16(), torch.randn(2, 20, 16).bfloat16()
    rows, targets = torch.tensor([5, 12, 19]), torch.arange(20)
    got = attention_received(queries, keys, rows, scale=0.25, targets=targets)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, materialised(queries.float(), keys.float(), rows, 0.25, targets))
    assert got.sum().item() == pytest.approx(1)


def test_leaves_its_inputs_alone() -> None:
    queries, keys = torch.ones(2, 2, 4), torch.ones(1, 5, 4)
    attention_received(queries, keys, torch.tensor([3, 4]), scale=3.0, targets=torch.arange(5))
    assert (queries == 1).all()
    assert (keys == 1).all()


def test_no_rows_give_no_attention() -> None:
    got = attention_received(
        torch.empty(2, 0, 4), torch.randn(1, 5, 4), torch.empty(0, dtype=torch.int64), scale=1.0, targets=torch.arange(3)
    )
    assert got.tolist() == [0, 0, 0]
