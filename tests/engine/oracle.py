"""The slow, obvious reference: a dense run in which a dropped token is masked from the layer where it was dropped."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import DynamicCache

from omnidrop_cli.model.adapter import QwenOmniAdapter
from omnidrop_cli.outputs import Trace


class DenseRun:
    """Every layer sees every token; attention to tokens that `trace` says were gone is masked out."""

    def __init__(self, adapter: QwenOmniAdapter, trace: Trace) -> None:
        self.adapter = adapter
        self.kept = [torch.as_tensor(indices) for indices in trace.kept]
        self.prompt_length = trace.prompt.total
        self.length = 0
        self.cache = DynamicCache(config=adapter.text_model.config)

    @torch.inference_mode()
    def prefill(self, embeds: Tensor, positions: Tensor) -> Tensor:
        """(n, d) normed hidden states of `embeds` (1, n, d) at `positions` (3, 1, n); rows of dropped tokens mean nothing."""
        return self._forward(embeds, positions)

    @torch.inference_mode()
    def step(self, token: int, position: int) -> Tensor:
        """(1, d) normed hidden state of one more token."""
        return self._forward(self.adapter.embed(torch.tensor([[token]])), torch.full((3, 1, 1), position))

    def _forward(self, hidden: Tensor, positions: Tensor) -> Tensor:
        rows = hidden.shape[1]
        self.length += rows
        causal = torch.ones(rows, self.length, dtype=torch.bool).tril(self.length - rows)
        angles = self.adapter.rotary(hidden, positions)
        for number in range(self.adapter.num_layers):
            visible = torch.ones(self.length, dtype=torch.bool)
            visible[: self.prompt_length] = False
            visible[self.kept[number]] = True
            mask = causal & visible
            mask[:, -rows:] |= torch.eye(rows, dtype=torch.bool)  # a dropped row may see itself: an empty row of softmax is NaN
            hidden = self.adapter.run_layer(number, hidden, angles, mask=mask[None, None], cache=self.cache)
        return self.adapter.norm(hidden)[0]
