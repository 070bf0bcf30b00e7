"""Keys and values of every decoder layer, each as long as what that layer saw, for one prompt.

Storage grows in blocks, so that a decode step copies one row and not the cache. The classes have the part of transformers' `Cache`
interface that a decoder layer uses.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

GROWTH = 256
"""Rows added at a time; a block of 256 rows of one 7B layer is 0.5 MB in bf16."""

ALIGNED = 64
"""Buffers are a multiple of this many rows long, for attention kernels that take a mask."""


def _aligned(rows: int) -> int:
    return -(-rows // ALIGNED) * ALIGNED


class LayerStore:
    """Keys and values (1, kv heads, length, dh) of one layer."""

    __slots__ = ("_keys", "_reserved", "_values", "length")

    def __init__(self) -> None:
        self.length = 0
        self._reserved = 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    @property
    def keys(self) -> Tensor:
        return self._view(self._keys)

    @property
    def values(self) -> Tensor:
        return self._view(self._values)

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add rows; the whole keys and values, as views."""
        start, stop = self.length, self.length + keys.shape[2]
        if self._keys is None or self._values is None or stop > self._keys.shape[2]:
            rows = _aligned(max(stop, self._reserved) + GROWTH)
            self._keys, self._values = self._grown(self._keys, keys, rows), self._grown(self._values, values, rows)
        self._keys[:, :, start:stop] = keys
        self._values[:, :, start:stop] = values
        self.length = stop
        return self.keys, self.values

    def reserve(self, rows: int) -> None:
        """Let the next allocation hold `rows` rows at once, for a prompt that comes in pieces."""
        self._reserved = rows

    def allocate(self, rows: int) -> tuple[Tensor, Tensor]:
        """The storage itself (1, kv heads, length + at least `rows`, dh), to be written from row `length` on, where it is zero now.

        It is whole and contiguous: a part of it would be copied by every product that merges its dimensions. It stays in place until the
        layer grows past it. What was written counts once `commit` says so.
        """
        if self._keys is None or self._values is None:
            raise ValueError("this layer has seen nothing yet")
        capacity = _aligned(self.length + rows)
        if capacity > self._keys.shape[2]:
            self._keys, self._values = self._grown(self._keys, self._keys, capacity), self._grown(self._values, self._values, capacity)
        for buffer in (self._keys, self._values):
            buffer[:, :, self.length :] = 0  # a masked row weighs nothing, but nothing times the NaN of fresh memory is NaN
        return self._keys, self._values

    def commit(self, rows: int) -> None:
        """Count `rows` rows that were written behind the last one, into what `allocate` gave."""
        self.length += rows

    def truncate(self, length: int) -> None:
        """Forget the rows from `length` on."""
        self.length = min(self.length, length)

    @property
    def nbytes(self) -> int:
        """Bytes of the rows held, without the spare block."""
        return 0 if self._keys is None else 2 * self.keys.numel() * self._keys.element_size()

    def _grown(self, old: Tensor | None, like: Tensor, rows: int) -> Tensor:
        batch, heads, _, dim = like.shape
        new = torch.empty(batch, heads, rows, dim, dtype=like.dtype, device=like.device)
        if old is not None:
            new[:, :, : self.length] = old[:, :, : self.length]
        return new

    def _view(self, tensor: Tensor | None) -> Tensor:
        if tensor is None:
            raise ValueError("this layer has seen nothing yet")
        return tensor[:, :, : self.length]


class RaggedCache:
    """One `LayerStore` per decoder layer. Lengths differ between layers, so no length speaks for the whole."""

    is_compileable = False
    is_sliding = (False,)

    def __init__(self, num_layers: int) -> None:
        self.layers = [LayerStore() for _ in range(num_layers)]

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        """transformers' entry: append the rows a layer just made, return all it has."""
        return self.layers[layer_idx].append(key_states, value_states)

    def attend(self, number: int, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """Append rows to layer `number`; attention of their queries (1, heads, r, dh) to the rows up to their own: (1, heads, r, dh)."""
        keys, values = self.layers[number].append(keys, values)
        rows, length = queries.shape[2], keys.shape[2]
        mask = None if rows == 1 else torch.ones(rows, length, dtype=torch.bool, device=keys.device).tril(length - rows)
        return scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=scale, enable_gqa=True)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.layers[layer_idx].length

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(layer.length for layer in self.layers)

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self.layers)

    def commit(self, rows: int) -> None:
        """Count `rows` rows that were written into the reserved storage of every layer."""
        for layer in self.layers:
            layer.commit(rows)

    def truncate(self, lengths: tuple[int, ...]) -> None:
        """Cut every layer back to its own length in `lengths`: to ask again from the same prefill, or after a draft that did not hold."""
        for layer, length in zip(self.layers, lengths, strict=True):
            layer.truncate(length)
