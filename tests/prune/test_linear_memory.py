"""Stages before the decoder hold no tensor that grows with the square of the clip's length: ten minutes must fit where one does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from omnidrop_cli.prune.base import PromptInfo
from omnidrop_cli.prune.merging import MAX_COSINES
from tests.prune.fakes import input_view, made, token_map

SECONDS = 300
CELLS = 9 * 16
"""Of a grid in the papers' layout: a table of every pair inside a grid is linear in the clip."""


class Largest(TorchDispatchMode):
    """The number of values in the largest tensor that any operation gave."""

    def __init__(self) -> None:
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        for tensor in given if isinstance(given, (tuple, list)) else (given,):
            if isinstance(tensor, torch.Tensor):
                self.values = max(self.values, tensor.numel())
        return given


@pytest.mark.parametrize("name", ["omnizip", "dash", "omnisift", "seats", "dycoke", "omnidrop", "omnifocus"])
def test_memory_is_linear(name: str) -> None:
    tokens = token_map((50,) * (SECONDS // 2), (2,) * (SECONDS // 2), cells=(9, 16))
    plan = made(name, keep=0.3).plan(PromptInfo(tokens, 28))
    assert plan.input_stage is not None
    with torch.inference_mode(), Largest() as largest:
        plan.input_stage(input_view(tokens))
    media = tokens.counts().media
    assert media**2 / 100 > MAX_COSINES, "a square would show"
    assert largest.values <= max(MAX_COSINES, 2 * CELLS * media)
