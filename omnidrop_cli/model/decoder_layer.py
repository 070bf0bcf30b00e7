"""A decoder layer by its parts: the prefill's halves over many rows, a decode step's single row, and projections for scoring.

Takes hidden states (1, n, hidden) and rotary angles, gives hidden states. The parts come from `adapter.py`; nothing here depends on
transformers. On a CPU each result equals transformers' own layer bit for bit, as long as rows are not computed in chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from omnidrop_cli.kernels import AMPERE

Angles = tuple[Tensor, Tensor]
"""Cosines and sines of the rotary embedding, (1, n, head_dim) each, height, width and time already interleaved."""

Rows = Callable[[Tensor], Tensor]
"""A module that treats rows alike."""

PROJECTED_TOGETHER = 4
"""Times `chunk` rows pass the projections at once: they take a fourth of an MLP's memory per row."""

CUDNN_FROM = 10**11
"""Squared rows times layers of that length from which attention may be cuDNN's: 61,000 rows in 27 layers. On a Hopper GPU it takes half of
flash's time, 10 of 21 ms at 32,000 rows, but the first plan of a process takes 0.9 s and one for another length 40 to 80 ms."""

MANY = 128
"""Rows from which unpacking weights costs less than products that read them packed."""


class ManyRows(Protocol):
    """A layer's products for `MANY` rows and more, where there are kernels for them (`nf4_products.py`)."""

    def heads(self, normed: Tensor, angles: Angles) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries, rotated keys, and values, (1, heads, n, head_dim) each, of normed rows."""

    def output(self, mixed: Tensor) -> Tensor:
        """The output projection of attention."""

    def mlp(self, normed: Tensor) -> Tensor:
        """The gated MLP of normed rows."""


class LayerCache(Protocol):
    """Keys and values of one layer."""

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add rows (1, kv heads, n, head_dim); the whole keys and values."""

    def reserve(self, rows: int) -> None:
        """Allocate for `rows` rows at once."""


class DecodeCache(Protocol):
    """Keys and values of all layers, which decoded rows attend to."""

    def attend(self, number: int, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """Add rows of `keys` and `values` (1, kv heads, r, head_dim) to layer `number`; attention (1, heads, r, head_dim) of `queries`."""


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """One layer. `attention_norm` and `mlp_norm` norm rows; `q_norm` and `k_norm` single heads: Qwen2.5 has none, Qwen3 has.

    `scale` is the factor of the attention logits; `flash` chooses the flash_attn package over SDPA.
    """

    number: int
    attention_norm: Rows
    q: Rows
    k: Rows
    v: Rows
    o: Rows
    mlp_norm: Rows
    mlp: Rows
    q_norm: Rows | None
    k_norm: Rows | None
    head_dim: int
    scale: float
    flash: bool = False
    many: ManyRows | None = None

    def attention(
        self, hidden: Tensor, angles: Angles, cache: LayerCache | None = None, *, chunk: int | None = None, alike: int = 1
    ) -> Tensor:
        """`hidden` (1, n, hidden) plus the causal attention of its normed rows, whose keys and values `cache` takes.

        At most `PROJECTED_TOGETHER` times `chunk` rows are projected at once: rotary angles take four times the memory of their rows.
        `alike` is how many layers are known to have this many rows.
        """
        count = hidden.shape[1]
        together = count if chunk is None else PROJECTED_TOGETHER * chunk
        mixed = self._mixed(hidden, angles, cache, together, count**2 * alike >= CUDNN_FROM)
        many = self._kernels(count)
        project = self.o if many is None else many.output
        if count <= together:
            return hidden + project(mixed)
        output = torch.empty_like(hidden)
        for rows in _pieces(count, together):
            torch.add(hidden[:, rows], project(mixed[:, rows]), out=output[:, rows])
        return output

    def feed_forward(self, hidden: Tensor, *, chunk: int | None = None) -> Tensor:
        """`hidden` (1, n, hidden) plus the MLP of its normed rows, written into `hidden`.

        A 7B layer's MLP needs 114 kB of activations per row in bfloat16: at most `chunk` rows pass at once.
        """
        many = self._kernels(hidden.shape[1])
        mlp = self.mlp if many is None else many.mlp
        for rows in hidden.split(chunk or hidden.shape[1], dim=1):
            rows.add_(mlp(self.mlp_norm(rows)))
        return hidden

    def decode(self, rows: Tensor, angles: Angles, cache: DecodeCache) -> Tensor:
        """The layer for one row or a few (1, r, hidden), in two thirds of the kernel launches of transformers' layer."""
        normed = self.attention_norm(rows)
        queries, keys = self._heads(self.q, normed, self.q_norm), self._heads(self.k, normed, self.k_norm)
        values = self._heads(self.v, normed)
        queries, keys = rotate(torch.cat((queries, keys), 1), angles).split((queries.shape[1], keys.shape[1]), 1)
        rows = rows + self.o(cache.attend(self.number, queries, keys, values, self.scale).transpose(1, 2).flatten(2))
        return rows + self.mlp(self.mlp_norm(rows))

    def queries(self, hidden: Tensor, angles: Angles) -> Tensor:
        """Rotated queries (1, heads, n, head_dim) of rows that enter the layer."""
        return rotate(self._heads(self.q, self.attention_norm(hidden), self.q_norm), angles)

    def keys_and_values(self, hidden: Tensor, angles: Angles) -> tuple[Tensor, Tensor]:
        """Rotated keys, and values, (1, kv heads, n, head_dim) each, of rows that enter the layer."""
        normed = self.attention_norm(hidden)
        return rotate(self._heads(self.k, normed, self.k_norm), angles), self._heads(self.v, normed)

    def _mixed(self, hidden: Tensor, angles: Angles, cache: LayerCache | None, together: int, cudnn: bool) -> Tensor:
        """(1, n, heads * head_dim) values that each row attends to. Queries are given back on return."""
        if cache is not None:
            cache.reserve(hidden.shape[1])
        return self._attend(*self._project(hidden, angles, cache, together), cudnn).transpose(1, 2).flatten(2)

    def _project(self, hidden: Tensor, angles: Angles, cache: LayerCache | None, together: int) -> tuple[Tensor, Tensor, Tensor]:
        count, (cos, sin) = hidden.shape[1], angles
        many, queries, keys, values = self._kernels(count), [], hidden, hidden
        heads = self.rotated_heads if many is None else many.heads
        for rows in _pieces(count, together):
            part = (cos[:, rows], sin[:, rows])
            asking, keys, values = heads(self.attention_norm(hidden[:, rows]), part)
            queries.append(asking)
            if cache is not None:
                keys, values = cache.append(keys, values)
        return queries[0] if len(queries) == 1 else torch.cat(queries, 2), keys, values

    def _kernels(self, rows: int) -> ManyRows | None:
        """The kernels for `rows` rows, where there are some and they pay."""
        return self.many if rows >= MANY else None

    def rotated_heads(self, normed: Tensor, angles: Angles) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries, rotated keys, and values, (1, heads, n, head_dim) each, of normed rows."""
        queries, keys = self._heads(self.q, normed, self.q_norm), self._heads(self.k, normed, self.k_norm)
        return rotate(queries, angles), rotate(keys, angles), self._heads(self.v, normed)

    def _heads(self, projection: Rows, rows: Tensor, norm: Rows | None = None) -> Tensor:
        """(1, heads, n, head_dim) of `rows` (1, n, hidden)."""
        projected = projection(rows).unflatten(-1, (-1, self.head_dim))
        return (projected if norm is None else norm(projected)).transpose(1, 2)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, cudnn: bool) -> Tensor:
        """Causal attention (1, heads, n, head_dim), rows counted from the first; on a GPU by cuDNN if it can and `cudnn` allows it."""
        if self.flash:
            from flash_attn import flash_attn_func

            packed = (tensor.transpose(1, 2) for tensor in (queries, keys, values))
            attended: Tensor = flash_attn_func(*packed, softmax_scale=self.scale, causal=True)
            return attended.transpose(1, 2)
        if queries.is_cuda and not _shares_keys(queries.device):
            # Without a kernel that shares keys SDPA would keep the whole matrix of weights.
            keys, values = (tensor.repeat_interleave(queries.shape[1] // tensor.shape[1], 1) for tensor in (keys, values))
        causal = queries.shape[2] > 1
        with _cudnn_allowed() if cudnn and queries.is_cuda else nullcontext():
            return scaled_dot_product_attention(queries, keys, values, is_causal=causal, scale=self.scale, enable_gqa=True)


def rotate(x: Tensor, angles: Angles) -> Tensor:
    """Rotary embedding of `x` (1, heads, n, head_dim), halves rotated as in transformers' `apply_rotary_pos_emb`."""
    cos, sin = (angle.unsqueeze(1) for angle in angles)
    if x.is_cuda:
        return add_rotated(x * cos, x, sin)
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


def add_rotated(scaled: Tensor, x: Tensor, sin: Tensor) -> Tensor:
    """Add the rotated halves of `x` times `sin` to `scaled`, which is `x` times the cosines, in place.

    With it a rotation is three kernels where the formula has five, with half of their memory traffic. Products are not rounded before they
    are added, so that half precision differs from the formula in the last place.
    """
    (left, right), (of_left, of_right), (into_left, into_right) = (tensor.chunk(2, dim=-1) for tensor in (x, sin, scaled))
    into_left.addcmul_(right, of_left, value=-1)
    into_right.addcmul_(left, of_right)
    return scaled


def _pieces(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, max(1, size)):
        yield slice(start, start + size)


@contextmanager
def _cudnn_allowed() -> Iterator[None]:
    """`adapter.set_up_attention` switches it off, since a plan for every length costs more than it saves in shorter prompts."""
    torch.backends.cuda.enable_cudnn_sdp(True)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(False)


@lru_cache
def _shares_keys(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= AMPERE  # before, no kernel of SDPA does
