"""Attention of the two towers: all windows in one call, and what their last layers attended to.

Knows: transformers' attention interface, that windows are given as cumulative lengths, and where the towers keep their last
queries and keys. Does not know: prompts, pruning methods, the decoder's attention.

Stock SDPA runs windows one by one in a Python loop: 720 calls per layer for a minute of pictures of 448 x 252. Windows of equal
length are a batch; the few others (edges of the picture, the end of the sound) are batches of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.weak import WeakTensorKeyDictionary

PACKED = "omnidrop_packed_flash"
"""Name in transformers' attention interface. Qwen's towers hand over a whole packed sequence with its window lengths when the
name contains "flash", and split it themselves otherwise."""

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


def install_windowed_attention(model: Any) -> None:
    """Make both towers of a thinker batch their windows, where they would run SDPA. No weight or module changes."""
    from transformers import AttentionInterface

    AttentionInterface.register(PACKED, packed_sdpa)
    for tower in (model.model.visual, model.model.audio_tower):
        if tower.config._attn_implementation == "sdpa":
            tower.config._attn_implementation = PACKED


def packed_sdpa(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    cu_seq_lens_q: Tensor,
    max_length_q: int,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention inside windows of one packed sequence: (1, heads, n, dh) each → (1, n, heads, dh).

    `cu_seq_lens_q` (windows + 1,) are the windows' ends. Nothing waits for the device where all windows are equally long.
    """
    q, k, v = (packed[0].transpose(0, 1) for packed in (query, key, value))
    rows, windows = q.shape[0], len(cu_seq_lens_q) - 1
    if windows * max_length_q == rows:  # no window is longer than the longest, so all are equal
        whole = _Group(max_length_q, windows, 0, None)
        return _attend(whole, q, k, v, scaling)[None], None
    output = torch.empty_like(q)
    for group in _groups(cu_seq_lens_q):
        group.put(output, _attend(group, q, k, v, scaling))
    return output[None], None


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
    """Filled while a tower runs inside its `capture_…` block; runs follow each other."""

    parts: list[Tensor] = field(default_factory=list)

    def received(self) -> Tensor:
        """(n,) float32: attention each of the tower's output tokens received. One is what a token gets where attention is even."""
        if not self.parts:
            raise RuntimeError("the tower has not run inside the capture block")
        return torch.cat(self.parts)


@contextmanager
def capture_audio_attention(audio_tower: Any, scope: Literal["window", "clip"] = "window") -> Iterator[ReceivedAttention]:
    """Attention received by every sound token (25 a second) in the audio tower's last layer.

    Softmax over keys, mean over heads, sum over queries, mean over the two frames of a token (OmniZip, arXiv 2511.14582 Eq. 2).
    `scope` "window" lets frames attend inside the tower's own two-second windows: what the encoder computed, and what SEATS reads
    (arXiv 2605.20035). "clip" lets every frame attend to all frames of the call, as OmniZip's published code does: quadratic time,
    linear memory, and it compares positions that the tower numbers anew in each window. One sound per tower call.
    """
    capture = ReceivedAttention()
    attention = audio_tower.layers[-1].self_attn

    def finish(q: Tensor, k: Tensor, kwargs: dict[str, Any]) -> None:
        ends = [0, len(q)] if scope == "clip" else kwargs["cu_seqlens"].tolist()
        frames = _received(q, k, ends, attention.scaling)
        pairs = len(frames) // 2  # the tower's pooling drops an odd last frame too
        capture.parts.append(frames[: 2 * pairs].view(pairs, 2).mean(1))

    with _last_layer(attention, attention.q_proj, attention.k_proj, attention.num_heads, finish):
        yield capture


@contextmanager
def capture_video_attention(visual: Any, grids_per_window: int = 2) -> Iterator[ReceivedAttention]:
    """Attention received by every picture token in the vision tower's last block, in prompt order.

    Softmax over the patches of `grids_per_window` temporal grids (two: one chunk of the prompt, as SEATS, arXiv 2605.20035; the
    tower itself attends inside one), mean over heads, sum over queries, mean over the patches merged into a token.
    """
    from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import apply_rotary_pos_emb_vision
    from transformers.vision_utils import get_vision_window_index

    capture = ReceivedAttention()
    attention, merge = visual.blocks[-1].attn, visual.spatial_merge_size
    grids: list[Tensor] = []

    def begin(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        grids[:] = [kwargs["grid_thw"] if "grid_thw" in kwargs else args[1]]

    def finish(q: Tensor, k: Tensor, kwargs: dict[str, Any]) -> None:
        ends = [0]
        for count, height, width in grids[0].tolist():
            for first in range(0, count, grids_per_window):
                ends.append(ends[-1] + min(grids_per_window, count - first) * height * width)
        q, k = apply_rotary_pos_emb_vision(q, k, *kwargs["position_embeddings"])
        patches = _received(q, k, ends, attention.scaling)
        tokens = patches.view(-1, merge * merge).mean(1)
        # Blocks see tokens in window order; the tower restores the prompt's order after its last block, and so does this.
        order, _ = get_vision_window_index(grids[0], merge, visual.window_size, visual.patch_size)
        capture.parts.append(tokens[torch.argsort(order).to(tokens.device)])

    handle = visual.register_forward_pre_hook(begin, with_kwargs=True)
    try:
        with _last_layer(attention, attention.q, attention.k, attention.num_heads, finish):
            yield capture
    finally:
        handle.remove()


@contextmanager
def _last_layer(attention: nn.Module, query: nn.Module, key: nn.Module, heads: int, finish: Any) -> Iterator[None]:
    """Call `finish(q, k, kwargs)` after each run of `attention`, with its projections (n, heads, dh) in float32: nothing runs twice."""
    projected: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, _: Any, output: Tensor) -> None:
        projected[module] = output

    def done(_: nn.Module, __: Any, kwargs: dict[str, Any], ___: Any) -> None:
        q, k = (projected.pop(part).detach().unflatten(-1, (heads, -1)).float() for part in (query, key))
        finish(q, k, kwargs)

    handles = [
        query.register_forward_hook(keep),
        key.register_forward_hook(keep),
        attention.register_forward_hook(done, with_kwargs=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _received(q: Tensor, k: Tensor, ends: Sequence[int], scaling: float) -> Tensor:
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
