"""What a decoder layer does to rows of hidden states between its matrix products: heads, rotary angles, chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Angles = tuple[Tensor, Tensor]
"""Cosines and sines of the rotary embedding, (1, n, head_dim) each, height, width and time already interleaved."""


def rotate(x: Tensor, angles: Angles) -> Tensor:
    """Rotary embedding of `x` (1, heads, n, head_dim), halves rotated as in transformers' `apply_rotary_pos_emb`."""
    cos, sin = (angle.unsqueeze(1) for angle in angles)
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


def split_heads(projection: Any, rows: Tensor, head_dim: int, norm: Any = None) -> Tensor:
    """(1, heads, n, head_dim) of `rows` (1, n, hidden)."""
    projected: Tensor = projection(rows).unflatten(-1, (-1, head_dim))
    return (projected if norm is None else norm(projected)).transpose(1, 2)


def in_chunks(module: Callable[[Tensor], Tensor], hidden: Tensor, chunk: int | None) -> Tensor:
    """`module`, which treats rows alike, of `hidden` (1, n, hidden), at most `chunk` rows at once."""
    if chunk is None or hidden.shape[-2] <= chunk:
        return module(hidden)
    output = torch.empty_like(hidden)
    for target, rows in zip(output.split(chunk, dim=-2), hidden.split(chunk, dim=-2), strict=True):
        target.copy_(module(rows))
    return output
