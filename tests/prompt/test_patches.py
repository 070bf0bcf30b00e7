"""Patches against a slow spelling-out of their order and of the normalisation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omnidrop_cli.prompt.patches import grid_of, patchify, resize
from omnidrop_cli.prompt.spec import PromptSpec

SPEC = PromptSpec(0, 1, 2, 3, 4, 5, 6, 7, 8)


def frames_of(t: int, rows: int, cols: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (t, 3, rows * 28, cols * 28), np.uint8))


def slow(frames: torch.Tensor) -> list[np.ndarray]:
    """Cell by cell, patch by patch, as the encoder's merger reads them."""
    pixels = frames.numpy().astype(np.float64) / 255
    pixels = (pixels - np.array(SPEC.image_mean)[:, None, None]) / np.array(SPEC.image_std)[:, None, None]
    out = []
    for t in range(0, len(pixels), 2):
        for cell_y in range(0, pixels.shape[2], 28):
            for cell_x in range(0, pixels.shape[3], 28):
                for y in (cell_y, cell_y + 14):
                    for x in (cell_x, cell_x + 14):
                        patch = pixels[t : t + 2, :, y : y + 14, x : x + 14]  # (frame, channel, y, x)
                        out.append(patch.transpose(1, 0, 2, 3).reshape(-1))
    return out


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=15)
def test_order_and_normalisation(grids: int, rows: int, cols: int) -> None:
    frames = frames_of(2 * grids, rows, cols)
    patches = patchify(frames, SPEC)
    assert patches.shape == (grids * rows * cols * 4, 3 * 2 * 14 * 14)
    assert patches.dtype == torch.float32
    np.testing.assert_allclose(patches.numpy(), slow(frames), atol=1e-5)


def test_pieces_equal_the_whole() -> None:
    frames = frames_of(8, 2, 3)
    pieces = [patchify(frames[start : start + 4], SPEC) for start in (0, 4)]
    assert torch.equal(torch.cat(pieces), patchify(frames, SPEC))


def test_last_frame_is_repeated_in_an_incomplete_grid() -> None:
    frames = frames_of(3, 1, 2)
    assert grid_of(3, 28, 56, SPEC) == (2, 2, 4)
    assert torch.equal(patchify(frames, SPEC), patchify(torch.cat([frames, frames[-1:]]), SPEC))


def test_frames_are_not_written_to() -> None:
    frames = frames_of(2, 1, 1)
    before = frames.clone()
    patchify(frames, SPEC)
    assert torch.equal(frames, before)


def test_other_patch_sizes() -> None:
    spec = replace(SPEC, patch_size=7, spatial_merge_size=4, temporal_patch_size=1)
    patches = patchify(frames_of(3, 2, 1), spec)
    assert patches.shape == (3 * 8 * 4, 3 * 49)


@pytest.mark.parametrize("size", [(28, 56), (84, 28)])
def test_resize_keeps_flat_colours_and_range(size: tuple[int, int]) -> None:
    frames = torch.tensor([0, 128, 255], dtype=torch.uint8)[None, :, None, None].expand(2, 3, 41, 53).contiguous()
    resized = resize(frames, *size)
    assert resized.dtype == torch.uint8
    assert resized.shape == (2, 3, *size)
    assert (resized == frames[:, :, :1, :1]).all()
