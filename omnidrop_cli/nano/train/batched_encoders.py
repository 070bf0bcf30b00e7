"""Both encoders over many clips at once.

Runs the stock modules on equal-length windows in one batch, where the stock forward loops over them in Python. Numerically equal to the
stock forward (tested).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import apply_rotary_pos_emb_vision

from omnidrop_cli.prompt.patches import patchify

if TYPE_CHECKING:
    from omnidrop_cli.prompt.spec import PromptSpec

WINDOW = 200
"""Mel frames the audio encoder sees at once: two seconds."""

TOKEN = 4
"""Mel frames of one audio token."""


def see(encoder: Any, frames: Tensor, spec: PromptSpec) -> Tensor:
    """(grids, cells, d) of frames uint8 (2·grids, 3, H, W) of at most 4 x 4 cells, from any number of clips of one size."""
    grids, (height, width) = len(frames) // spec.temporal_patch_size, frames.shape[-2:]
    patches = patchify(frames.to(encoder.device), spec)
    hidden = encoder.patch_embed(patches).view(grids, -1, encoder.config.hidden_size)
    cos, sin = _vision_angles(encoder, height // spec.patch_size, width // spec.patch_size)
    for block in encoder.blocks:
        attention, normed = block.attn, block.norm1(hidden)
        shape = (*hidden.shape[:2], attention.num_heads, attention.head_dim)
        query, key = attention.q(normed).view(shape), attention.k(normed).view(shape)
        query, key = apply_rotary_pos_emb_vision(query, key, cos, sin)
        hidden = hidden + attention.proj(_mix(query, key, attention.v(normed).view(shape)))
        hidden = hidden + block.mlp(block.norm2(hidden))
    merged: Tensor = encoder.merger(hidden)
    return merged.view(grids, -1, merged.shape[-1])


def _vision_angles(encoder: Any, rows: int, cols: int) -> tuple[Tensor, Tensor]:
    cos, sin = encoder.rotary_pos_emb(encoder.merger.ln_q.weight, _vision_places(rows, cols, encoder.spatial_merge_size).to(encoder.device))
    return cos, sin


@lru_cache(maxsize=16)
def _vision_places(rows: int, cols: int, merge: int) -> Tensor:
    from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import get_vision_position_ids

    places: Tensor = get_vision_position_ids(torch.tensor([[1, rows, cols]]), merge)
    return places


def hear(encoder: Any, mels: Sequence[Tensor]) -> list[Tensor]:
    """Per clip (n, d), from log-mels (128, M) whose windows have few different lengths: full ones, and tails."""
    windows = [(clip, window) for clip, mel in enumerate(mels) for window in mel.split(WINDOW, dim=1)]
    lengths = sorted({window.shape[1] for _, window in windows})
    done: dict[int, Tensor] = {}
    for length in lengths:
        same = [place for place, (_, window) in enumerate(windows) if window.shape[1] == length]
        out = _hear_windows(encoder, torch.stack([windows[place][1] for place in same]))
        done.update(zip(same, out, strict=True))
    parts: list[list[Tensor]] = [[] for _ in mels]
    for place, (clip, _) in enumerate(windows):
        parts[clip].append(done[place])
    return [torch.cat(part) for part in parts]


def _hear_windows(encoder: Any, windows: Tensor) -> Tensor:
    """(w, n, d) of windows (w, 128, length)."""
    hidden = F.gelu(encoder.conv1(windows.to(encoder.conv1.weight)))
    hidden = F.gelu(encoder.conv2(hidden)).transpose(1, 2)
    hidden = hidden + encoder.positional_embedding.positional_embedding[: hidden.shape[1]].to(hidden.dtype)
    for layer in encoder.layers:
        attention, normed = layer.self_attn, layer.self_attn_layer_norm(hidden)
        shape = (*hidden.shape[:2], attention.num_heads, attention.head_dim)
        query, key, value = (proj(normed).view(shape) for proj in (attention.q_proj, attention.k_proj, attention.v_proj))
        hidden = hidden + attention.out_proj(_mix(query, key, value))
        hidden = hidden + layer.fc2(F.gelu(layer.fc1(layer.final_layer_norm(hidden))))
    count = (hidden.shape[1] - 2) // 2 + 1
    pooled = hidden[:, : 2 * count].unflatten(1, (count, 2)).mean(2)
    out: Tensor = encoder.proj(encoder.ln_post(pooled))
    return out


def _mix(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of (b, n, heads, d) over all of one window, written out for the sake of its backward pass on CPUs."""
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)
    merged: Tensor = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
    return merged
