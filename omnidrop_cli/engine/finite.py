"""Finds logits that are no numbers, before an answer of "!!!!!!!!" is made of them, and says what the likely cause is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from omnidrop_cli.errors import ModelError


def check_finite(logits: Tensor, model: nn.Module, dtype: torch.dtype) -> None:
    """Check the first token's logits; waits for the device once per prompt.

    Args:
        logits: (vocab,) of the last prompt row.
        model: Searched for a weight that holds NaN or infinity, where a logit does.
        dtype: That of the activations.

    Raises:
        ModelError: A logit is NaN or infinite.
    """
    if bool(logits.isfinite().all()):
        return
    message = "the model computed NaN or infinity, so there is no answer"
    if (name := _broken_weight(model)) is not None:
        raise ModelError(f"{message}: its weight {name} is not finite", "the checkpoint is damaged; download it or quantise it again")
    if dtype == torch.float16:
        raise ModelError(f"{message}: float16 holds no value above 65504", "use `dtype=bfloat16` or float32")
    raise ModelError(message, "use `dtype=float32`, or run `omnidrop doctor` and report it with the clip")


def _broken_weight(model: nn.Module) -> str | None:
    return next((name for name, tensor in _floating(model) if not bool(tensor.isfinite().all())), None)


def _floating(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Floating-point tensors behind the parameters: the parameters themselves, or the scales of quantised ones."""
    for name, parameter in model.named_parameters():
        waiting: list[Any] = [parameter.data, getattr(parameter, "quant_state", None), getattr(parameter, "SCB", None)]
        while waiting:
            item = waiting.pop()
            if isinstance(item, Tensor):
                if item.is_floating_point() and not item.is_meta:
                    yield name, item
            elif item is not None and hasattr(item, "absmax"):  # a 4-bit weight's state; doubly quantised, its scales have one too
                waiting += [item.absmax, item.offset, item.state2]
