"""The ragged cache holds what plain concatenation would."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.engine.kv_cache import GROWTH, RaggedCache


@given(st.lists(st.integers(1, GROWTH + 40), min_size=1, max_size=5), st.integers(1, 3))
def test_appending_equals_concatenating(sizes: list[int], layers: int) -> None:
    cache = RaggedCache(layers)
    for layer in range(layers):
        pieces = [torch.randn(1, 2, size + layer, 4) for size in sizes]
        for piece in pieces:
            keys, values = cache.update(piece, -piece, layer)
        assert torch.equal(keys, torch.cat(pieces, 2))
        assert torch.equal(values, -keys)
    assert cache.lengths == tuple(sum(sizes) + layer * len(sizes) for layer in range(layers))
    assert cache.nbytes == sum(2 * length * 2 * 4 * 4 for length in cache.lengths)


def test_cropping_goes_back_to_the_prefill() -> None:
    cache = RaggedCache(2)
    first = torch.randn(1, 1, 7, 4)
    for layer in range(2):
        cache.update(first[:, :, layer:], first[:, :, layer:], layer)
    lengths = cache.lengths
    for layer in range(2):
        cache.update(torch.ones(1, 1, 3, 4), torch.ones(1, 1, 3, 4), layer)
    cache.truncate(lengths)
    assert cache.lengths == (7, 6)
    assert torch.equal(cache.layers[1].keys, first[:, :, 1:])


def test_storage_stays_in_place_until_the_layer_outgrows_it() -> None:
    cache = RaggedCache(1)
    cache.update(torch.ones(1, 1, 7, 4), torch.ones(1, 1, 7, 4), 0)
    layer = cache.layers[0]
    before, _ = layer.allocate(3)
    layer.commit(3)
    assert layer.allocate(3)[0].data_ptr() == before.data_ptr()
    assert layer.allocate(4 * GROWTH)[0].data_ptr() != before.data_ptr()
