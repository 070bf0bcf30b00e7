"""The loaded model every later step works with.

Knows: where a thinker keeps its decoder, its towers and its output matrix, and which tokens end an answer. Does not know how it
was loaded (`load.py`, `random_weights.py`), prompts, or pruning.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from omnidrop_cli.model.sizes import DecoderSizes, ThinkerSizes
from omnidrop_cli.prompt.spec import PromptSpec

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

    from omnidrop_cli.model.names import FrameBounds
    from omnidrop_cli.outputs import LoadedModel


@dataclass(frozen=True, eq=False)
class Thinker:
    """A thinker on its device, with everything a prompt and an answer need.

    `model` is transformers' Qwen2.5-Omni thinker for generation. Its configuration names no end token, so an answer that is not
    stopped at `eos_ids` (<|im_end|>, <|endoftext|>) never ends. `frame_bounds` are the pixels of one frame, `directory` where the
    weights were read from, None for random ones.
    """

    model: Any
    tokenizer: Any
    spec: PromptSpec
    loaded: LoadedModel
    sizes: DecoderSizes
    eos_ids: tuple[int, ...]
    pad_id: int
    frame_bounds: FrameBounds
    directory: Path | None = None

    @classmethod
    def assemble(cls, model: Any, tokenizer: Any, loaded: LoadedModel, frame_bounds: FrameBounds, directory: Path | None = None) -> Thinker:
        """Join a model and its tokenizer. Raises `ModelError` where the tokenizer lacks the tokens of the chat format."""
        tokenizer.model_max_length = sys.maxsize  # lengths are judged in the prompt, where something can be done about them
        spec = PromptSpec.from_config(model.config, tokenizer)
        return cls(
            model=model,
            tokenizer=tokenizer,
            spec=spec,
            loaded=loaded,
            sizes=ThinkerSizes.from_dict(model.config.to_dict()).decoder,
            eos_ids=(spec.im_end, spec.endoftext),
            pad_id=spec.endoftext,
            frame_bounds=frame_bounds,
            directory=directory,
        )

    @cached_property
    def weights_mb(self) -> float:
        """Memory of all parameters, in megabytes (1e6 bytes)."""
        total: int = sum(p.numel() * p.element_size() for p in self.model.parameters())
        return total / 1e6

    @property
    def text_model(self) -> Any:
        """The decoder stack with its embedding table and last norm, without the output matrix."""
        return self.model.model.language_model

    @property
    def layers(self) -> nn.ModuleList:
        layers: nn.ModuleList = self.text_model.layers
        return layers

    @property
    def lm_head(self) -> nn.Module:
        head: nn.Module = self.model.lm_head
        return head

    @property
    def embed_tokens(self) -> nn.Module:
        table: nn.Module = self.text_model.embed_tokens
        return table

    @property
    def visual(self) -> Any:
        """The vision tower."""
        return self.model.model.visual

    @property
    def audio_tower(self) -> Any:
        return self.model.model.audio_tower

    @property
    def device(self) -> torch.device:
        device: torch.device = self.embed_tokens.weight.device  # type: ignore[assignment]  # nn.Module attributes are untyped
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of activations: quantised layers compute in the dtype of the embedding table."""
        dtype: torch.dtype = self.embed_tokens.weight.dtype  # type: ignore[assignment]  # nn.Module attributes are untyped
        return dtype
