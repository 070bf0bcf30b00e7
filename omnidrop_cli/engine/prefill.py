"""Embeddings → a filled cache, the logits of the last row, and the trace.

Knows: how to run the decoder once over a prompt under a pruning method. Does not know: the towers, sampling, text.
Only the last row passes the last layer and meets the vocabulary: stock forward would make logits of every row (152,000 columns each).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from omnidrop_cli.engine.kv_cache import RaggedCache
from omnidrop_cli.engine.oom import Limits
from omnidrop_cli.engine.row_chunks import last_row_only, row_blocks
from omnidrop_cli.model.adapter import cache_argument
from omnidrop_cli.prune.generate_hook import NO_MASK, pruning

if TYPE_CHECKING:
    from omnidrop_cli.engine.encode import MediaFeatures
    from omnidrop_cli.model.thinker import Thinker
    from omnidrop_cli.outputs import Prompt, Trace
    from omnidrop_cli.prune.base import Method
    from omnidrop_cli.prune.generate_hook import PruningRun


@dataclass(frozen=True, slots=True, eq=False)
class Prefilled:
    """A prompt the decoder has read. `cache` grows during decoding; `logits` is (vocab,) float32 of the first answer token."""

    cache: RaggedCache
    logits: Tensor
    next_position: int
    run: PruningRun

    @property
    def trace(self) -> Trace:
        return self.run.trace()

    @property
    def notes(self) -> Mapping[str, float | int | str]:
        return self.run.notes


@torch.inference_mode()
def prefill(
    thinker: Thinker, prompt: Prompt, embeds: Tensor, features: MediaFeatures, method: Method, *, limits: Limits | None = None
) -> Prefilled:
    """Read `embeds` (1, n, d), the prompt's input embeddings, under `method`, at most `limits.rows` at a time where rows are independent.

    Raises `ValueError` where the method cannot work with this prompt, and torch's out-of-memory error.
    """
    cache = RaggedCache(thinker.sizes.num_layers)
    positions = torch.from_numpy(prompt.positions).to(thinker.device)[:, None]  # (3, 1, n)
    with (
        pruning(
            thinker.model,
            method,
            prompt.token_map,
            audio_attention=features.audio_attention,
            video_attention=features.video_attention,
            checkpoint=thinker.directory,
        ) as run,
        last_row_only(thinker.layers[-1]),
        row_blocks(thinker.layers, (limits or Limits()).rows),
    ):
        cached = cache_argument(thinker.text_model, cache)
        output = thinker.text_model(inputs_embeds=embeds, position_ids=positions, attention_mask=NO_MASK, use_cache=True, **cached)
    logits = thinker.lm_head(output.last_hidden_state[0, -1]).float()
    return Prefilled(cache=cache, logits=logits, next_position=prompt.next_position, run=run)


@torch.inference_mode()
def step(thinker: Thinker, cache: RaggedCache, token: int, position: int) -> Tensor:
    """Read one token at TMRoPE position `position` (all three axes); (vocab,) float32 logits of the next."""
    ids = torch.tensor([[token]], device=thinker.device)
    positions = torch.full((3, 1, 1), position, device=thinker.device)
    cached = cache_argument(thinker.text_model, cache)
    output = thinker.text_model(input_ids=ids, position_ids=positions, attention_mask=NO_MASK, use_cache=True, **cached)
    logits: Tensor = thinker.lm_head(output.last_hidden_state[0, -1]).float()
    return logits
