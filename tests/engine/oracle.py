"""The slow, obvious reference: a dense run in which a dropped token is masked from the layer where it was dropped."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from omnidrop_cli.outputs import Trace


class DenseRun:
    """Every layer sees every token; attention to tokens that `trace` says were gone is masked out."""

    def __init__(self, text_model: Any, trace: Trace) -> None:
        self.text_model = text_model
        self.kept = [torch.as_tensor(indices) for indices in trace.kept]
        self.prompt_length = trace.prompt.total
        self.length = 0
        self.cache = DynamicCache(config=text_model.config)

    @torch.inference_mode()
    def prefill(self, embeds: Tensor, positions: Tensor) -> Tensor:
        """(n, d) normed hidden states of `embeds` (1, n, d) at `positions` (3, 1, n); rows of dropped tokens mean nothing."""
        return self._forward(embeds, positions)

    @torch.inference_mode()
    def step(self, token: int, position: int) -> Tensor:
        """(1, d) normed hidden state of one more token."""
        return self._forward(self.text_model.embed_tokens(torch.tensor([[token]])), torch.full((3, 1, 1), position))

    def _forward(self, hidden: Tensor, positions: Tensor) -> Tensor:
        rows = hidden.shape[1]
        self.length += rows
        causal = torch.ones(rows, self.length, dtype=torch.bool).tril(self.length - rows)
        angles = self.text_model.rotary_emb(hidden, positions)
        for number, layer in enumerate(self.text_model.layers):
            visible = torch.ones(self.length, dtype=torch.bool)
            visible[: self.prompt_length] = False
            visible[self.kept[number]] = True
            mask = causal & visible
            mask[:, -rows:] |= torch.eye(rows, dtype=torch.bool)  # a dropped row may see itself: an empty row of softmax is NaN
            hidden = layer(hidden, attention_mask=mask[None, None], position_embeddings=angles, past_key_values=self.cache)
        return self.text_model.norm(hidden)[0]
