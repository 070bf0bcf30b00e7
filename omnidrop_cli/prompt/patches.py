"""Frames → the patches the vision encoder reads.

Normalises frames and orders their patches as Qwen2.5-Omni does. torchvision, which the stock video processor needs, is not used. Source:
transformers `Qwen2VLVideoProcessor`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

    from omnidrop_cli.prompt.spec import PromptSpec


def grid_of(frames: int, height: int, width: int, spec: PromptSpec) -> tuple[int, int, int]:
    """Temporal grids, patch rows and patch columns of a stack of frames; an incomplete last grid counts."""
    return -(-frames // spec.temporal_patch_size), height // spec.patch_size, width // spec.patch_size


def patchify(frames: Tensor, spec: PromptSpec) -> Tensor:
    """Frames (t, 3, H, W) uint8 → patches (n, 3 * temporal_patch_size * patch_size²) float32, on the frames' device.

    H and W are multiples of `spec.token_side_px`. An incomplete last grid repeats the last frame, as the stock processor does.
    Patches of one merged cell are neighbours, as the encoder's merger expects. They take four times the frames' bytes, and one more for the
    reordered copy: hand in long clips piece by piece, cut at whole grids (the results are the same).
    """
    merge, patch, depth = spec.spatial_merge_size, spec.patch_size, spec.temporal_patch_size
    if missing := -len(frames) % depth:
        frames = torch.cat([frames, frames[-1:].expand(missing, -1, -1, -1)])
    grids, rows, cols = grid_of(len(frames), frames.shape[-2], frames.shape[-1], spec)
    cells = frames.reshape(grids, depth, 3, rows // merge, merge, patch, cols // merge, merge, patch)
    # (grid, cell row, cell col, row in cell, col in cell, channel, frame, y, x); moved as bytes, a quarter of the float traffic.
    cells = cells.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(grids * rows * cols, 3, depth * patch * patch)
    # Mean and deviation times 255 in float32, subtract, divide: the stock order of operations, so the floats are the same bits.
    mean = torch.tensor(spec.image_mean, device=frames.device)[:, None] * 255.0
    std = torch.tensor(spec.image_std, device=frames.device)[:, None] * 255.0
    return cells.to(torch.float32).sub_(mean).div_(std).flatten(1)


def resize(frames: Tensor, height: int, width: int) -> Tensor:
    """Frames (t, 3, H, W) uint8 on the CPU → (t, 3, height, width) uint8: bicubic with antialiasing, bit for bit the stock resize.

    torch's byte kernel, which torchvision uses too, clamps between its two passes; the float kernel does not, and lands up to
    twenty levels away at hard edges.
    """
    return F.interpolate(frames, (height, width), mode="bicubic", antialias=True, align_corners=False)
