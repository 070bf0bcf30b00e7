"""Pictures seen before are not encoded again, and nobody can tell from the features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.engine.encode import encode_media
from omnidrop_cli.engine.frame_dedup import grid_digests, grid_sources
from omnidrop_cli.engine.oom import Limits
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.model.thinker import Thinker
from omnidrop_cli.outputs import Prompt
from tests.engine.test_encode import prompt_of

H, W, CELL = 56, 84, 28


def sources(frames: np.ndarray, **options: float) -> list[int]:
    return grid_sources(frames, grid_digests(frames, 2), depth=2, cell=CELL, **options).tolist()  # type: ignore[arg-type]


def show(pictures: list[int], noise: int = 0) -> np.ndarray:
    """Two frames of each numbered picture, with `noise` levels of difference between showings."""
    paint = [np.random.default_rng(number).integers(20, 236, (3, H, W)) for number in range(max(pictures) + 1)]
    shown = np.stack([paint[number] for number in pictures for _ in range(2)])
    return (shown + np.random.default_rng(99).integers(-noise, noise + 1, shown.shape)).astype(np.uint8)


def test_repeated_pictures_point_at_the_first() -> None:
    assert sources(show([0, 0, 1, 0, 2, 1])) == [0, 0, 2, 0, 4, 2]


def test_units_repeat_together_or_not_at_all() -> None:
    assert sources(show([0, 1, 0, 1, 1, 0, 0, 1, 1]), unit=2) == [0, 1, 0, 1, 4, 5, 0, 1, 8]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(1, 2))
def test_sources_show_the_same_and_come_first(pictures: list[int], unit: int) -> None:
    found = sources(show(pictures), unit=unit)
    for grid, source in enumerate(found):
        assert pictures[source] == pictures[grid]
        assert source <= grid
        assert found[source] == source


def test_noise_is_distinguished_from_change() -> None:
    frames = show([0, 0, 1, 0, 1], noise=2)
    assert sources(frames) == [0, 1, 2, 3, 4]
    assert sources(frames, same_within=3.0) == [0, 0, 2, 0, 2]
    assert sources(frames, same_within=0.1) == [0, 1, 2, 3, 4]
    # One cell of one frame is another, at the same mean: averaged over the picture nobody would see it.
    moved = show([0, 0])
    moved[3, :, :CELL, :CELL] = np.flip(moved[3, :, :CELL, :CELL], axis=(1, 2))
    assert sources(moved, same_within=10.0) == [0, 1]


def test_slow_change_does_not_add_up() -> None:
    frames = np.repeat(np.arange(60, 76, dtype=np.uint8), 2)[:, None, None, None] + np.zeros((32, 3, H, W), np.uint8)
    assert sources(frames, same_within=4.0) == [0] * 5 + [5] * 5 + [10] * 5 + [15]


@contextmanager
def counted_grids(thinker: Thinker) -> Iterator[list[int]]:
    counts: list[int] = []
    handle = thinker.adapter.vision_encoder.register_forward_pre_hook(
        lambda _, __, kwargs: counts.append(int(kwargs["grid_thw"][:, 0].sum())), with_kwargs=True
    )
    yield counts
    handle.remove()


def pictured(thinker: Thinker, pictures: list[int], noise: int = 0) -> Prompt:
    prompt = prompt_of(thinker, 2 * len(pictures), 0)
    return replace(prompt, media=(replace(prompt.media[0], frames=show(pictures, noise)),))


@pytest.mark.parametrize(
    ("needs", "pictures", "encoded"),
    [
        ((), [0, 0, 1, 0, 2, 1, 2, 2, 0], 3),
        (("video_attention",), [0, 0, 1, 0, 2, 1, 0, 0, 1, 0, 0], 7),
        ((), [0, 1, 2, 3], 4),
    ],
)
@pytest.mark.parametrize("patches", [4 * 6, 3 * 4 * 6, 16_384])
def test_features_equal_those_of_every_grid_encoded(needs: tuple[str, ...], pictures: list[int], encoded: int, patches: int) -> None:
    thinker = tiny_thinker(2)
    prompt = pictured(thinker, pictures)
    with counted_grids(thinker) as grids:
        features = encode_media(thinker, prompt, frozenset(needs), limits=Limits(patches=patches))
    assert sum(grids) == encoded
    assert features.video is not None
    cells = len(features.video) // len(pictures)
    unit = 2 if needs else 1
    for grid in range(0, len(pictures), unit):  # each alone: nothing could be reused
        alone = encode_media(thinker, pictured(thinker, pictures[grid : grid + unit]), frozenset(needs))
        part = slice(grid * cells, (grid + unit) * cells)
        torch.testing.assert_close(features.video[part], alone.video, rtol=1e-4, atol=1e-5)
        if needs:
            assert features.video_attention is not None
            torch.testing.assert_close(features.video_attention[part], alone.video_attention, rtol=1e-4, atol=1e-5)


def test_tolerance_reaches_the_encoder() -> None:
    thinker = tiny_thinker(2)
    prompt = pictured(thinker, [0, 0, 0, 1, 1], noise=2)
    with counted_grids(thinker) as grids:
        encode_media(thinker, prompt)
        encode_media(thinker, prompt, same_within=3.0)
    assert grids == [5, 2]
