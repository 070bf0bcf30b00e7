"""Where the parts of a decoder are, and how a layer's own queries and keys are made again.

Knows: the attribute names every transformers decoder of the Qwen family shares (`layers`, `self_attn.q_proj`, `input_layernorm`)
and its rotary embedding. Does not know: transformers' classes, token maps, methods.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def text_model_of(model: nn.Module) -> nn.Module:
    """The decoder stack inside a thinker, or the stack itself.

    Raises `TypeError` for a model without decoder layers of the expected shape.
    """
    for path in ("model.language_model", "language_model", ""):
        found: Any = model
        for name in path.split(".") if path else ():
            found = getattr(found, name, None)
        if isinstance(found, nn.Module) and isinstance(getattr(found, "layers", None), nn.ModuleList):
            _check(found)
            return found
    raise TypeError(f"{type(model).__name__} has no decoder layers that pruning knows")


def _check(text_model: nn.Module) -> None:
    config: Any = text_model.config
    if getattr(config, "_attn_implementation", "sdpa") == "eager":
        raise TypeError("eager attention sizes its mask from layer 0 and cannot run on layers of different lengths; load with sdpa")
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        raise TypeError("sliding-window layers cannot be pruned: the window counts positions that are gone")


CACHE_NAMES = ("cache", "past_key_values")
"""What transformers calls the argument in which a decoder and its layers receive their cache: from 5.24, and before."""


def cache_argument(module: nn.Module, cache: Any) -> dict[str, Any]:
    """`cache` as the keyword argument that `module` takes, a decoder or one of its layers."""
    takes = inspect.signature(module.forward).parameters
    return {next((name for name in CACHE_NAMES if name in takes), CACHE_NAMES[0]): cache}


def cache_in(kwargs: Mapping[str, Any]) -> Any:
    """The cache among the keyword arguments of a decoder or a decoder layer, or None where it was called without one.

    Callers may use either name with transformers 5.24 to 5.39, hooks see `cache` only.
    """
    for name in CACHE_NAMES:
        if name in kwargs:
            return kwargs[name]
    return None


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of (heads, r, dh) with angles (r, dh), halves rotated as in transformers' `apply_rotary_pos_emb`."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


def queries_of(layer: nn.Module, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(heads, r, dh) rotated queries of the rows `hidden` (r, d), the layer's own input."""
    return rotate(_heads(layer, "q_proj", hidden), cos, sin)


def keys_of(layer: nn.Module, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(kv heads, n, dh) rotated keys of `hidden` (n, d). Only for runs without a cache, which holds the same tensor."""
    return rotate(_heads(layer, "k_proj", hidden), cos, sin)


def _heads(layer: nn.Module, projection: str, hidden: Tensor) -> Tensor:
    attention: Any = layer.self_attn
    normed: Tensor = layer.input_layernorm(hidden)  # type: ignore[operator]  # nn.Module attributes are untyped
    projected: Tensor = getattr(attention, projection)(normed)
    return projected.view(hidden.shape[0], -1, attention.head_dim).transpose(0, 1)


def scale_of(layer: nn.Module) -> float:
    """The factor of the attention logits."""
    attention: Any = layer.self_attn
    return float(attention.scaling)
