"""The loaded model that every later step works with: the thinker, its tokenizer, its sizes, and the tokens that end an answer."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from omnidrop_cli.model.adapter import QwenOmniAdapter
from omnidrop_cli.model.sizes import DecoderSizes, ThinkerSizes
from omnidrop_cli.prompt.spec import PromptSpec

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from omnidrop_cli.outputs import FrameBounds, LoadedModel


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
    def all_sizes(self) -> ThinkerSizes:
        """Sizes of the decoder and of both encoders."""
        return ThinkerSizes.from_dict(self.model.config.to_dict())

    @cached_property
    def weights_mb(self) -> float:
        """Memory of all parameters, in megabytes (1e6 bytes)."""
        total: int = sum(p.numel() * p.element_size() for p in self.model.parameters())
        return total / 1e6

    @cached_property
    def adapter(self) -> QwenOmniAdapter:
        """The model by its parts; the only way to them."""
        return QwenOmniAdapter(self.model)

    @property
    def device(self) -> torch.device:
        return self.adapter.embedding_weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of activations: quantised layers compute in the dtype of the embedding table."""
        return self.adapter.embedding_weight.dtype
