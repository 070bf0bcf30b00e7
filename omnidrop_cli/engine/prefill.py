"""The prefill: input embeddings pass the decoder layers, tokens are dropped between layers, and the last row gives the first logits.

A plain loop over the layers. Only the last row passes the last layer and the output matrix: the first answer token comes from that
row, and later ones read the last layer's keys and values. Stock forward would compute logits of every row, 152,000 columns each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from omnidrop_cli.engine.kv_cache import RaggedCache
from omnidrop_cli.engine.oom import Limits
from omnidrop_cli.prune.base import PromptInfo
from omnidrop_cli.prune.clips import plan_clips
from omnidrop_cli.prune.state import PruningState

if TYPE_CHECKING:
    from omnidrop_cli.engine.encode import MediaFeatures
    from omnidrop_cli.model.decoder_layer import Angles, DecoderLayer
    from omnidrop_cli.model.thinker import Thinker
    from omnidrop_cli.outputs import Prompt, Trace
    from omnidrop_cli.prune.base import Method


@dataclass(frozen=True, slots=True, eq=False)
class Prefilled:
    """A prompt that has passed the decoder. `cache` grows during decoding; `logits` (vocab,) float32 choose the first answer token."""

    cache: RaggedCache
    logits: Tensor
    next_position: int
    state: PruningState

    @property
    def trace(self) -> Trace:
        return self.state.trace()

    @property
    def notes(self) -> Mapping[str, float | int | str]:
        """Facts that the method wants reported, such as solved schedule parameters."""
        return self.state.plan.metadata or {}


def prefill(
    thinker: Thinker, prompt: Prompt, embeds: Tensor, features: MediaFeatures, method: Method, *, limits: Limits | None = None
) -> Prefilled:
    """Run the decoder over a prompt under a pruning method.

    Args:
        embeds: (1, n, d) input embeddings of the prompt. Its memory is given back after the first layer, unless the caller holds it.
        features: the encoders' outputs, for the attention that some methods read.
        limits: `rows` bounds how many rows pass an MLP at once.

    Raises:
        ValueError: the method cannot work with this prompt.
        RuntimeError: out of memory, as torch reports it.
    """
    adapter, rows = thinker.adapter, (limits or Limits()).rows
    adapter.check_prunable()
    plan = plan_clips(method, PromptInfo(tokens=prompt.token_map, num_layers=adapter.num_layers, checkpoint=thinker.directory))
    state = PruningState(adapter, method.name, plan, prompt.token_map, features.attention_for(method.needs))
    cache = RaggedCache(adapter.num_layers)
    last = adapter.num_layers - 1
    alike = last if plan.in_llm_stage is None else 1
    with torch.inference_mode():
        positions = torch.from_numpy(prompt.positions).to(thinker.device)[:, None]  # (3, 1, n)
        hidden, angles = state.start(embeds, adapter.rotary(embeds, positions))
        del embeds
        for number in range(last):
            layer, entering = adapter.layer(number), hidden
            hidden = layer.attention(entering, angles, cache.layers[number], chunk=rows, alike=alike)
            hidden = layer.feed_forward(hidden, chunk=rows)
            hidden, angles = state.after_layer(number, entering, hidden, angles, cache)
        hidden = _last_row(adapter.layer(last), hidden, angles, cache)
        return Prefilled(cache=cache, logits=adapter.logits(hidden), next_position=prompt.next_position, state=state)


def _last_row(layer: DecoderLayer, hidden: Tensor, angles: Angles, cache: RaggedCache) -> Tensor:
    """The last layer for the last row of `hidden` alone: (1, 1, d). The other rows only add their keys and values to the cache."""
    cos, sin = angles
    if hidden.shape[1] > 1:
        keys, values = layer.keys_and_values(hidden[:, :-1], (cos[:, :-1], sin[:, :-1]))
        cache.update(keys, values, layer.number)
    return layer.decode(hidden[:, -1:], (cos[:, -1:], sin[:, -1:]), cache)
