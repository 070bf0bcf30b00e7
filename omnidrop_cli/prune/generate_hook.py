"""Pruning inside transformers' own `generate`: hooks on the decoder and its layers that run a method's stages.

The engine's prefill needs no hooks (`engine/prefill.py`). These serve models that other code runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from omnidrop_cli.model.adapter import (
    QwenOmniAdapter,
    cache_in,
    causal_call,
    decoder_call,
    first_tensor,
    layer_call,
    with_first_tensor,
    with_layer_call,
)
from omnidrop_cli.model.decoder_layer import Angles
from omnidrop_cli.outputs import TokenMap
from omnidrop_cli.prune.base import Method, Plan, PromptInfo
from omnidrop_cli.prune.clips import plan_clips
from omnidrop_cli.prune.state import PruningState, Saliency


@contextmanager
def pruning(
    model: nn.Module,
    method: Method,
    tokens: TokenMap,
    *,
    audio_attention: Saliency = None,
    video_attention: Saliency = None,
    checkpoint: Path | None = None,
) -> Iterator[PruningState]:
    """Prune every prefill of `tokens` that `model` runs inside the block.

    Args:
        model: a Qwen2.5-Omni thinker, or its decoder stack.
        tokens: the map of the prompt that will run.
        audio_attention, video_attention: attention received in the encoders' last layers, (n_audio,) and (n_video,), or functions
            that are called once the encoders have run.
        checkpoint: directory of the model's weights, for methods with a trained part.

    Yields:
        The state; its `trace()` has the kept tokens.

    Raises:
        ValueError: the method cannot work with this prompt, another prompt runs, or a batch does.
        ModelError: a decoder that cannot be pruned.
    """
    adapter = QwenOmniAdapter(model)
    adapter.check_prunable()
    plan = plan_clips(method, PromptInfo(tokens=tokens, num_layers=adapter.num_layers, checkpoint=checkpoint))
    state = PruningState(adapter, method.name, plan, tokens, (audio_attention, video_attention))
    handles: list[Any] = []
    try:
        if plan != Plan(metadata=plan.metadata):
            hooks = _Hooks(state)
            handles.append(adapter.text_model.register_forward_pre_hook(hooks.before_decoder, with_kwargs=True))
            for number, layer in enumerate(adapter.layers):
                handles.append(layer.register_forward_pre_hook(partial(hooks.before_layer, number), with_kwargs=True))
                handles.append(layer.register_forward_hook(partial(hooks.after_layer, number), with_kwargs=True))
        yield state
    finally:
        for handle in handles:
            handle.remove()


class _Hooks:
    """What the hooks do. Between layers they keep what the next layer receives instead of what transformers hands it."""

    def __init__(self, state: PruningState) -> None:
        self._state = state
        self._prefilling = False
        self._entering: Tensor | None = None
        self._angles: Angles | None = None

    def before_decoder(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        call = decoder_call(kwargs)
        if call.batch != 1:
            raise ValueError(f"pruning runs one prompt at a time, not a batch of {call.batch}")
        self._prefilling = call.rows > 1 and call.cached == 0
        if self._prefilling and call.rows != len(self._state.tokens):
            raise ValueError(f"the prompt has {call.rows} tokens, its token map {len(self._state.tokens)}")
        return args, causal_call(kwargs, maskless=self._prefilling or call.rows == 1)

    def before_layer(
        self, number: int, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if not self._prefilling:
            return None
        hidden, angles = layer_call(args, kwargs)
        if number == 0:
            hidden, self._angles = self._state.start(hidden, angles)
        self._entering = hidden
        return with_layer_call(args, kwargs, hidden, self._angles or angles)

    def after_layer(self, number: int, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if not self._prefilling or self._entering is None or self._angles is None:
            return None
        leaving, self._angles = self._state.after_layer(number, self._entering, first_tensor(output), self._angles, cache_in(kwargs))
        self._entering = None
        return with_first_tensor(output, leaving)
