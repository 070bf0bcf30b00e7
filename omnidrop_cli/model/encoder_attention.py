"""Attention inside windows of a packed sequence, all windows of one length in one call, and how much attention each row received.

Both encoders attend inside windows. Stock SDPA runs them one by one in a Python loop: 720 calls per layer for a minute of frames of
448 x 252. Windows of equal length are a batch; the few others (edges of a frame, the end of the audio) are batches of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.weak import WeakTensorKeyDictionary

MAX_SCORES = 2**23
"""Attention weights in memory at once while received attention is summed: 32 MB of float32."""


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """`count` windows of `length` rows each. `rows` (count * length,) says which rows; None where they follow each other from `start`."""

    length: int
    count: int
    start: int
    rows: Tensor | None

    def take(self, packed: Tensor) -> Tensor:
        """(n, heads, dh) → (count, heads, length, dh)."""
        picked = packed.narrow(0, self.start, self.count * self.length) if self.rows is None else packed.index_select(0, self.rows)
        return picked.view(self.count, self.length, *packed.shape[1:]).transpose(1, 2)

    def put(self, packed: Tensor, values: Tensor) -> None:
        """The reverse of `take`, for values (count * length, ...)."""
        if self.rows is None:
            packed.narrow(0, self.start, self.count * self.length).copy_(values)
        else:
            packed.index_copy_(0, self.rows, values)


_GROUPS: Any = WeakTensorKeyDictionary()  # one entry per tensor of window lengths in use: all layers of a pass share it


def attend_windows(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, longest: int, scaling: float) -> Tensor:
    """Attention inside windows of one packed sequence: (n, heads, head_dim) each → (n, heads, head_dim).

    `ends` (windows + 1,) are the windows' cumulative lengths, `longest` the length of the longest. Nothing waits for the device where
    all windows are equally long.
    """
    rows, windows = q.shape[0], len(ends) - 1
    if windows * longest == rows:  # no window is longer than the longest, so all are equal
        return _attend(_Group(longest, windows, 0, None), q, k, v, scaling)
    output = torch.empty_like(q)
    for group in _groups(ends):
        group.put(output, _attend(group, q, k, v, scaling))
    return output


def _attend(group: _Group, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
    attended = scaled_dot_product_attention(group.take(q), group.take(k), group.take(v), scale=scaling)
    return attended.transpose(1, 2).flatten(0, 1)


def _groups(ends: Tensor) -> tuple[_Group, ...]:
    found: tuple[_Group, ...] | None = _GROUPS.get(ends)
    if found is None:
        found = group_windows(ends.tolist(), ends.device)
        _GROUPS[ends] = found
    return found


def group_windows(ends: Sequence[int], device: torch.device | None = None) -> tuple[_Group, ...]:
    """Windows between consecutive `ends` (the first is 0), grouped by length."""
    starts_of: dict[int, list[int]] = {}
    for start, stop in pairwise(ends):
        if stop > start:
            starts_of.setdefault(stop - start, []).append(start)
    groups = []
    for length, starts in starts_of.items():
        adjoining = starts[-1] - starts[0] == length * (len(starts) - 1)
        rows = None
        if not adjoining:
            rows = (torch.tensor(starts, device=device)[:, None] + torch.arange(length, device=device)).flatten()
        groups.append(_Group(length, len(starts), starts[0], rows))
    return tuple(groups)


# ---------------------------------------------------------------- what the last layer attended to


@dataclass(eq=False)
class ReceivedAttention:
    """Attention received in an encoder's last layer, one tensor per run of the encoder (`QwenOmniAdapter.capture_audio_attention`).

    `pending` adds what can only be computed once all runs are over; it is called when the attention is first read.
    """

    parts: list[Tensor] = field(default_factory=list)
    pending: Callable[[], None] | None = None

    def received(self) -> Tensor:
        """(n,) float32: attention that each output token of the encoder received; 1 where attention is even."""
        if self.pending is not None:
            self.pending()
        if not self.parts:
            raise RuntimeError("the encoder has not run inside the capture block")
        return torch.cat(self.parts)


def received_attention(q: Tensor, k: Tensor, ends: Sequence[int], scaling: float) -> Tensor:
    """(n,) attention received inside the windows between `ends`, from q and k (n, heads, dh); at most `MAX_SCORES` weights at once."""
    output = q.new_empty(len(q))
    heads = q.shape[1]
    for group in group_windows(ends, q.device):
        queries, keys = group.take(q * scaling), group.take(k).transpose(2, 3)
        windows = max(1, MAX_SCORES // (heads * group.length**2))
        rows = max(1, MAX_SCORES // (heads * group.length))
        sums = []
        for some_q, some_k in zip(queries.split(windows), keys.split(windows), strict=True):
            parts = (torch.softmax(block @ some_k, dim=-1).sum((1, 2)) for block in some_q.split(rows, dim=2))
            sums.append(sum(parts, torch.zeros((), device=q.device)) / heads)
        group.put(output, torch.cat(sums).flatten())
    return output
