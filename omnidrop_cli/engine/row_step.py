"""All decoder layers for one row by the kernels of `row_products` and `row_attention`: nine launches a layer instead of 26.

In: the hidden state of a token and its rotary angles. Out: the hidden state that leaves the last layer; keys and values are in the
buffers of a static cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from omnidrop_cli.engine.kv_cache import ALIGNED

if TYPE_CHECKING:
    from omnidrop_cli.kernels.nf4_weights import NF4Layer
    from omnidrop_cli.model.decoder_layer import Angles
    from omnidrop_cli.model.thinker import Thinker

Buffers = tuple[Tensor, Tensor, Tensor]
"""Keys and values (kv heads, capacity, dh) of a layer, and the row to write next, int64 (1,), on the device."""


def readable_layers(thinker: Thinker) -> Sequence[NF4Layer] | None:
    """The layers of `thinker` as the kernels read them; None where they cannot, or where Triton or the GPU cannot run them."""
    plain = thinker.loaded.quant == "nf4" and thinker.loaded.attention == "sdpa"
    return thinker.adapter.nf4_layers if plain else None


@torch.inference_mode()
def compile_kernels(thinker: Thinker) -> None:
    """Run one layer for rows that nobody reads, so that no answer waits for the compiler.

    A machine keeps what it has compiled on disk. What fails here fails again where it is used, and is reported there.
    """
    with suppress(Exception), torch.cuda.device_of(thinker.adapter.embedding_weight):
        thinker.adapter.layer(0)  # compares the kernels for many rows with the modules
        layers = readable_layers(thinker)
        if layers:
            like, sizes = thinker.adapter.embedding_weight, thinker.sizes
            keys, values = like.new_zeros(2, sizes.kv_heads, ALIGNED, sizes.head_dim)
            angles = like.new_zeros(2, 1, 1, sizes.head_dim)
            row = torch.zeros(1, dtype=torch.long, device=like.device)
            RowStep(layers[:1], [(keys, values, row)], like)(like[:1], (angles[0], angles[1]))


class RowStep:
    """Runs one row through the layers. Every buffer is made once, so that a CUDA graph can hold it."""

    def __init__(self, layers: Sequence[NF4Layer], buffers: Sequence[Buffers], like: Tensor) -> None:
        """`buffers` has those of each of `layers`; `like` has the dtype and the device of the hidden states."""
        from omnidrop_cli.kernels import row_attention, row_products

        first = layers[0]
        self._products, self._attention, self._layers, self._buffers = row_products, row_attention, layers, buffers
        self._heads = first.o.k // first.head_dim
        sizes = sum(one.n for one in first.qkv)
        self._hidden = like.new_empty(first.o.n)
        self._projected = like.new_empty(sizes)
        # What a product reads is float32: it needs no conversion there.
        self._normed, self._mixed, self._opened = (
            like.new_empty(size, dtype=torch.float32) for size in (first.o.n, first.o.k, first.gate.n)
        )
        self._scratch = row_attention.scratch(self._heads, first.head_dim, like.device)

    def __call__(self, hidden: Tensor, angles: Angles) -> Tensor:
        """`hidden` (1, 1, hidden) behind the layers, with `angles` (1, 1, head_dim) each. The result is overwritten by the next call."""
        kernels, state = self._products, self._hidden
        state.copy_(hidden.view(-1))
        flat = angles[0].view(-1), angles[1].view(-1)
        for number, layer in enumerate(self._layers):
            kernels.norm(state, *layer.attention_norm, self._normed)
            kernels.products(self._normed, self._projected, layer.qkv)
            self._attend(number, layer, flat)
            kernels.products(self._mixed, state, (layer.o,), residual=state)
            kernels.norm(state, *layer.mlp_norm, self._normed)
            kernels.gated(self._normed, self._opened, layer.gate, layer.up, state.dtype)
            kernels.products(self._opened, state, (layer.down,), residual=state)
        return state.view(1, 1, -1)

    def _attend(self, number: int, layer: NF4Layer, angles: tuple[Tensor, Tensor]) -> None:
        keys, values, row = self._buffers[number]
        heads = self._projected.view(-1, layer.head_dim)
        self._attention.rotate_and_write(heads, angles, keys, values, row)
        self._attention.attend(heads[: self._heads], keys, values, row, self._mixed, self._scratch, layer.scale)
