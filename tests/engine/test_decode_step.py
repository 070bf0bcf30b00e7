"""A step over static buffers reads a token as the grown cache does, for any ragged lengths, and leaves the same cache behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from omnidrop_cli.engine.decode_step import StaticDecode, step
from omnidrop_cli.engine.kv_cache import ALIGNED, GROWTH, LayerStore, RaggedCache
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.model.thinker import Thinker

SHAPES = [(2, 4, 4, 16), (6, 4, 2, 16), (5, 6, 1, 32), (9, 2, 1, 64)]


def ragged(thinker: Thinker, lengths: tuple[int, ...], seed: int = 0) -> RaggedCache:
    """A cache of random rows, `lengths[l]` in layer l."""
    sizes, noise = thinker.sizes, torch.Generator().manual_seed(seed)
    cache = RaggedCache(sizes.num_layers)
    with torch.inference_mode():
        for layer, length in enumerate(lengths):
            keys, values = torch.randn(2, 1, sizes.kv_heads, length, sizes.head_dim, generator=noise)
            cache.update(keys.to(thinker.dtype), values.to(thinker.dtype), layer)
    return cache


def lengths_for(thinker: Thinker, longest: int) -> tuple[int, ...]:
    return tuple(max(1, longest - 13 * layer - layer % 3) for layer in range(thinker.sizes.num_layers))


def assert_same(one: RaggedCache, other: RaggedCache) -> None:
    assert one.lengths == other.lengths
    for mine, theirs in zip(one.layers, other.layers, strict=True):
        torch.testing.assert_close(mine.keys, theirs.keys, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mine.values, theirs.values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("longest", [5, ALIGNED, 300])
def test_static_steps_equal_grown_steps(shape: tuple[int, int, int, int], longest: int) -> None:
    thinker = tiny_thinker(*shape)
    lengths = lengths_for(thinker, longest)
    grown, kept = ragged(thinker, lengths), ragged(thinker, lengths)
    static = StaticDecode(thinker, kept, token=7, position=longest + 40, max_steps=20)
    token = 7
    for offset in range(20):
        expected = step(thinker, grown, token, longest + 40 + offset)
        static.step()
        torch.testing.assert_close(static.logits, expected, rtol=1e-4, atol=5e-5)
        token = int(expected.argmax())
        assert static.chosen(offset, offset + 1) == [token]
    assert kept.lengths == lengths, "the ragged cache changed early"
    static.commit(20)
    assert_same(kept, grown)


def test_a_fed_token_is_read_and_a_step_taken_back_leaves_no_trace() -> None:
    thinker = tiny_thinker(4)
    lengths = (40, 33, 12, 9)
    grown, kept = ragged(thinker, lengths), ragged(thinker, lengths)
    static = StaticDecode(thinker, kept, token=7, position=60, max_steps=6)
    for offset, token in enumerate((7, 99, 3)):
        static.set_token(200)  # the wrong one, taken back
        static.step()
        static.rollback(token)
        static.step()
        expected = step(thinker, grown, token, 60 + offset)
        torch.testing.assert_close(static.logits, expected, rtol=1e-4, atol=5e-5)
    static.commit(3)
    assert_same(kept, grown)


def test_the_ragged_cache_grows_on_after_static_steps() -> None:
    thinker = tiny_thinker(4)
    lengths = (70, 64, 40, 1)
    grown, kept = ragged(thinker, lengths), ragged(thinker, lengths)
    for start in (0, 6):  # static, then as before, and both again
        static = StaticDecode(thinker, kept, token=start, position=80 + start, max_steps=5)
        for _ in range(5):
            static.step()
        static.commit(3)  # two steps were for nothing
        for offset, token in enumerate((start, *static.chosen(0, 2))):
            step(thinker, grown, token, 80 + start + offset)
        for offset in range(3, 6):
            torch.testing.assert_close(
                step(thinker, kept, 9, 80 + start + offset), step(thinker, grown, 9, 80 + start + offset), rtol=1e-4, atol=5e-5
            )
    assert_same(kept, grown)


def test_memory_nobody_wrote_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory may hold NaN, and a weight of nothing times NaN is NaN."""
    fresh = torch.empty

    def poisoned(*shape: int, **options: object) -> Tensor:
        return fresh(*shape, **options).fill_(float("nan"))  # type: ignore[call-overload]

    monkeypatch.setattr(torch, "empty", poisoned)
    thinker = tiny_thinker(3)
    for max_steps in (1, GROWTH + 200):
        cache = ragged(thinker, (50, 20, 10))
        static = StaticDecode(thinker, cache, token=1, position=50, max_steps=max_steps)
        static.step()
        assert static.logits.isfinite().all()


@pytest.mark.parametrize(("length", "max_steps"), [(1, 1), (ALIGNED, 1), (200, GROWTH), (200, 1000)])
def test_reserved_storage_stays_where_it_is(length: int, max_steps: int) -> None:
    store = LayerStore()
    rows = torch.randn(1, 2, length, 4)
    store.append(rows, -rows)
    keys, values = store.allocate(max_steps)
    assert keys.shape[2] >= length + max_steps
    assert keys.shape[2] % ALIGNED == 0
    assert torch.equal(keys[:, :, :length], rows)
    assert not keys[:, :, length:].any()
    assert not values[:, :, length:].any()
    keys[:, :, length] = 5
    store.commit(1)
    assert store.keys[0, 0, -1, 0] == 5
    for _ in range(max_steps - 1):
        store.append(torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 4))
    assert store.keys.data_ptr() == keys.data_ptr(), "what was promised does not move"


def test_a_layer_that_saw_nothing_has_no_storage() -> None:
    with pytest.raises(ValueError, match="nothing yet"):
        LayerStore().allocate(1)
