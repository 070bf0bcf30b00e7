"""Stand-ins for transformers versions that do not exist: an argument renamed, a part moved, a tuple returned, other results."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers.models.qwen2_5_omni import modeling_qwen2_5_omni as modeling

LAYER = modeling.Qwen2_5OmniDecoderLayer
TEXT_MODEL = modeling.Qwen2_5OmniThinkerTextModel
THINKER = modeling.Qwen2_5OmniThinkerForConditionalGeneration
ATTENTION = modeling.Qwen2_5OmniAttention


def rename_cache_argument(patch: pytest.MonkeyPatch) -> None:
    """Layers take their cache as `memory`."""
    old = "cache" if "cache" in LAYER.forward.__code__.co_varnames else "past_key_values"
    original = LAYER.forward

    def forward(self: Any, hidden_states: Any, *, memory: Any = None, **kwargs: Any) -> Any:
        return original(self, hidden_states, **{old: memory}, **kwargs)

    patch.setattr(LAYER, "forward", forward)


def rename_angles_argument(patch: pytest.MonkeyPatch) -> None:
    """Layers take their rotary angles as `rotary_angles`."""
    original = LAYER.forward

    def forward(self: Any, hidden_states: Any, past_key_values: Any = None, rotary_angles: Any = None, **kwargs: Any) -> Any:
        kwargs.pop("position_embeddings", None)  # swallowed, as layers do with arguments they do not know
        return original(self, hidden_states, position_embeddings=rotary_angles, **kwargs)

    patch.setattr(LAYER, "forward", forward)


def move_norms(patch: pytest.MonkeyPatch) -> None:
    """The norm before attention has another name."""
    original = LAYER.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.pre_norm = self.input_layernorm
        del self.input_layernorm

    patch.setattr(LAYER, "__init__", init)


def move_layers(patch: pytest.MonkeyPatch) -> None:
    """The decoder's layers are called `blocks`."""
    original = TEXT_MODEL.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.blocks = self.layers
        del self.layers

    patch.setattr(TEXT_MODEL, "__init__", init)


def return_tuples(patch: pytest.MonkeyPatch) -> None:
    """Layers return a tuple, as before transformers 4.56; the decoder takes it apart."""
    original, decoder = LAYER.forward, TEXT_MODEL.forward
    inside: list[bool] = []

    def forward(self: Any, hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        output = original(self, hidden_states, *args, **kwargs)
        return output if inside else (output,)

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        inside.append(True)
        try:
            return decoder(self, *args, **kwargs)
        finally:
            inside.pop()

    forward.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
    run.__signature__ = inspect.signature(decoder)  # type: ignore[attr-defined]
    patch.setattr(LAYER, "forward", forward)
    patch.setattr(TEXT_MODEL, "forward", run)


def scale_attention(patch: pytest.MonkeyPatch) -> None:
    """The decoder scales what a layer gives: the results of the layer loop are no longer transformers' own."""
    original = TEXT_MODEL.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = original(self, *args, **kwargs)
        output.last_hidden_state = output.last_hidden_state * 1.01
        return output

    forward.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
    patch.setattr(TEXT_MODEL, "forward", forward)


def ignore_masks(patch: pytest.MonkeyPatch) -> None:
    """Attention takes no additive mask: every row sees every key before it."""
    original = ATTENTION.forward

    def forward(self: Any, hidden_states: Any, attention_mask: Any = None, *args: Any, **kwargs: Any) -> Any:
        rows = hidden_states.shape[1]
        if attention_mask is not None and rows > 1:
            attention_mask = torch.full((rows, rows), float("-inf")).triu(1)[None, None]
        elif attention_mask is not None:
            attention_mask = torch.zeros_like(attention_mask)
        return original(self, hidden_states, attention_mask, *args, **kwargs)

    forward.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
    patch.setattr(ATTENTION, "forward", forward)


def lose_encoder_windows(patch: pytest.MonkeyPatch) -> None:
    """Transformers' helper for window lengths is gone from where it was."""
    import transformers.vision_utils

    patch.delattr(transformers.vision_utils, "get_vision_window_index")


BREAKS: dict[Callable[[pytest.MonkeyPatch], None], str] = {
    rename_cache_argument: "model",
    rename_angles_argument: "layer loop",
    move_norms: "layer loop",
    move_layers: "model",
    scale_attention: "layer loop",
    ignore_masks: "pruned layers",
    lose_encoder_windows: "encoders",
}
"""What a version may do, and the probe that must find it."""

HARMLESS: tuple[Callable[[pytest.MonkeyPatch], None], ...] = (return_tuples,)
"""What the adapter takes as it comes."""
