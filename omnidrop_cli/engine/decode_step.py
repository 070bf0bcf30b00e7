"""One token through the decoder: eagerly, also with drafted ones behind it, or as a static step that a CUDA graph can capture.

In the static step same tensors stay at the same addresses with the same shapes, token after token: the grown cache's own storage
serves as buffers of a different length in every layer, and masks, write rows and the position live on the device and advance there,
so that a step never waits for the host. `cuda_graph.py` captures it; eagerly it runs on any device.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from omnidrop_cli.engine.kv_cache import RaggedCache
from omnidrop_cli.engine.masked_attention import masked_attention
from omnidrop_cli.engine.row_step import Buffers, RowStep

if TYPE_CHECKING:
    from omnidrop_cli.kernels.nf4_weights import NF4Layer
    from omnidrop_cli.model.decoder_layer import DecodeCache
    from omnidrop_cli.model.thinker import Thinker


@torch.inference_mode()
def step(thinker: Thinker, cache: RaggedCache, token: int, position: int) -> Tensor:
    """Run one token at TMRoPE position `position` (all three axes); (vocab,) float32 logits of the next."""
    device = thinker.device
    # `full` fills on the device; a tensor made of a list would be copied there, and the host would wait for it.
    return _logits(thinker, torch.full((1, 1), token, device=device), torch.full((3, 1, 1), position, device=device), cache)


@torch.inference_mode()
def read_together(thinker: Thinker, cache: RaggedCache, tokens: Sequence[int], position: int) -> Tensor:
    """Run consecutive tokens in one pass, the first at TMRoPE position `position`; (tokens, vocab) float32 logits of what follows each.

    Equal to one `step` after another but for rounding: products of several rows run in other kernels than those of one.
    """
    ids = torch.tensor([tokens], device=thinker.device)
    positions = torch.arange(position, position + len(tokens), device=thinker.device).expand(3, 1, -1)
    return thinker.adapter.row_logits(_hidden(thinker, ids, positions, cache))


def _logits(thinker: Thinker, token: Tensor, position: Tensor, cache: DecodeCache) -> Tensor:
    """(vocab,) float32 logits after `token` (1, 1) at `position` (3, 1, 1)."""
    return thinker.adapter.logits(_hidden(thinker, token, position, cache))


def _hidden(thinker: Thinker, tokens: Tensor, positions: Tensor, cache: DecodeCache) -> Tensor:
    """(1, r, hidden) states of `tokens` (1, r) at `positions` (3, 1, r) that leave the last layer."""
    adapter = thinker.adapter
    hidden = adapter.embed(tokens)
    angles = adapter.rotary(hidden, positions)
    for number in range(adapter.num_layers):
        hidden = adapter.layer(number).decode(hidden, angles, cache)
    return hidden


class StaticCache:
    """The storage of a `RaggedCache`, each layer with its own length and space for more rows, and one additive mask per layer.

    `masks[l]` is float32 (capacity of l,), minus infinity where nothing was written. The ragged cache learns of new rows by its
    `commit`, and must not grow before that.
    """

    def __init__(self, cache: RaggedCache, max_steps: int, advancing: Tensor) -> None:
        """Allocate `max_steps` rows. `advancing` (2 x layers,) int64 takes the rows to be written; whoever owns it adds 1 per step."""
        count = len(cache.layers)
        self._buffers = [layer.allocate(max_steps) for layer in cache.layers]
        capacities = [keys.shape[2] for keys, _ in self._buffers]
        starts = [0, *accumulate(capacities)]
        like = self._buffers[0][0]
        flat = torch.full((starts[-1],), float("-inf"), dtype=torch.float32, device=like.device)
        self.masks = flat.split(capacities)
        for mask, length in zip(self.masks, cache.lengths, strict=True):
            mask[:length] = 0
        advancing.copy_(torch.tensor([*cache.lengths, *(s + n for s, n in zip(starts, cache.lengths, strict=False))]))
        self._rows = advancing[:count].split(1)
        self._flat_mask, self._flat_rows = flat, advancing[count:]

    def unmask(self) -> None:
        """Let every layer attend to the row it is about to write."""
        self._flat_mask.index_fill_(0, self._flat_rows, 0)

    def buffers(self) -> list[Buffers]:
        """Those of every layer, for kernels that write and attend by themselves."""
        return [(keys[0], values[0], row) for (keys, values), row in zip(self._buffers, self._rows, strict=True)]

    def attend(self, number: int, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """Write one row into layer `number`; attention of its queries (1, heads, 1, dh) to the rows written: (1, heads, 1, dh)."""
        all_keys, all_values = self._buffers[number]
        all_keys.index_copy_(2, self._rows[number], keys)
        all_values.index_copy_(2, self._rows[number], values)
        return masked_attention(queries, all_keys, all_values, self.masks[number], scale)


class StaticDecode:
    """Reads one token per `step`. `logits` (vocab,) float32 are of the last step; the likeliest token becomes the next one by itself.

    To choose otherwise, `set_token` a token before the next step. At most `max_steps` steps.
    """

    @torch.inference_mode()
    def __init__(
        self, thinker: Thinker, cache: RaggedCache, token: int, position: int, max_steps: int, layers: Sequence[NF4Layer] | None = None
    ) -> None:
        """`token` is read first, at TMRoPE position `position`. Raises torch's out-of-memory error; `cache` is then as it was.

        `layers` are the thinker's, to be run by kernels for one row; without them its modules run.
        """
        device, count = thinker.device, len(cache.layers)
        self._thinker, self._ragged = thinker, cache
        # One tensor, so that one addition advances all: rows and mask rows of every layer, the position, the number of tokens chosen.
        self._advancing = torch.zeros(2 * count + 2, dtype=torch.long, device=device)
        self._cache = StaticCache(cache, max_steps, self._advancing[: 2 * count])
        self._position, self._count = self._advancing[-2:-1], self._advancing[-1:]
        self._position.fill_(position)
        self._token = torch.full((1, 1), token, dtype=torch.long, device=device)
        self._chosen = torch.zeros(max_steps, dtype=torch.long, device=device)
        self.logits = torch.empty(thinker.sizes.vocab, dtype=torch.float32, device=device)
        self._kernels = None if layers is None else RowStep(layers, self._cache.buffers(), thinker.adapter.embedding_weight)

    @torch.inference_mode()
    def step(self) -> None:
        """Read the current token. Launches work and returns: no value comes back to the host, no shape depends on one."""
        self.logits.copy_(self._read())
        self._token.copy_(self.logits.argmax(keepdim=True)[None])
        self._chosen.index_copy_(0, self._count, self._token[0])
        self._advancing.add_(1)

    def _read(self) -> Tensor:
        """(vocab,) logits after the current token."""
        position = self._position.expand(3, 1, 1)
        if self._kernels is None:
            self._cache.unmask()
            return _logits(self._thinker, self._token, position, self._cache)
        adapter = self._thinker.adapter
        hidden = adapter.embed(self._token)
        return adapter.logits(self._kernels(hidden, adapter.rotary(hidden, position)))

    @torch.inference_mode()
    def set_token(self, token: int) -> None:
        """Read `token` next instead of the likeliest."""
        self._token.fill_(token)

    @torch.inference_mode()
    def rollback(self, token: int) -> None:
        """Take the last step back, in which `token` was read, to run it again."""
        self._advancing.sub_(1)
        self._token.fill_(token)

    def chosen(self, start: int, stop: int) -> list[int]:
        """The likeliest tokens after steps `start` to `stop` (exclusive), counted from 0. Waits for the device."""
        tokens: list[int] = self._chosen[start:stop].tolist()
        return tokens

    def commit(self, steps: int) -> None:
        """Hand the rows of the first `steps` steps to the ragged cache, which may then grow as before."""
        self._ragged.commit(steps)
