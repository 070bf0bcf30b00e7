"""Cosines by lengths that are divided out afterwards, against those of unit vectors."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from omnidrop_cli.prune import cosines
from omnidrop_cli.prune.cosines import Directions


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_cosines_are_those_of_unit_vectors(dtype: torch.dtype) -> None:
    noise = torch.Generator().manual_seed(0)
    rows, others = ((200 * torch.randn(count, 64, generator=noise)).to(dtype) for count in (7, 5))
    rows[3] = 0
    units = [normalize(some.double(), dim=-1) for some in (rows, others)]
    found = Directions.of(rows).cosines(Directions.of(others))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), units[0] @ units[1].T, atol=1e-6, rtol=0)
    picked = torch.tensor([6, 0])
    assert torch.equal(Directions.of(rows)[picked].cosines(Directions.of(others)), found[picked])


def test_blocks_are_unit_vectors_in_bounded_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(10, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    monkeypatch.setattr(cosines, "BLOCK", 24)
    places, parts = zip(*Directions.of(rows).blocks(), strict=True)
    assert [part.shape[0] for part in parts] == [3, 3, 3, 1]
    assert [rows[place].shape[0] for place in places] == [3, 3, 3, 1]
    torch.testing.assert_close(torch.cat(parts), normalize(rows.float(), dim=-1))
