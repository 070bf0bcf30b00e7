"""Which layers the kernels may read: those in which nothing but plain NF4 products happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bitsandbytes as bnb
import pytest
import torch

from omnidrop_cli.kernels.nf4_weights import nf4_weights
from omnidrop_cli.model.quantize import quantized_linear
from omnidrop_cli.model.random_weights import tiny_thinker


def packed(k: int = 128, dtype: torch.dtype = torch.bfloat16, **options: Any) -> Any:
    linear = torch.nn.Linear(k, 24)
    made = quantized_linear(linear, "nf4", "cpu", dtype)
    if options:
        made.weight = bnb.nn.Params4bit(linear.weight.data, requires_grad=False, **options).to("cpu")
    return made


class Adapted(bnb.nn.Linear4bit):  # type: ignore[misc]
    """What an adapter puts in a layer's place."""


def with_a_hook(linear: Any) -> Any:
    linear.register_forward_hook(lambda *_: None)
    return linear


def of_another_class(linear: Any) -> Any:
    linear.__class__ = Adapted
    return linear


def test_a_plain_layer_is_read_by_its_parts() -> None:
    weights = nf4_weights(packed(), torch.bfloat16)
    assert weights is not None
    assert (weights.n, weights.k, weights.words.shape, weights.words.dtype) == (24, 128, (24 * 16,), torch.int32)
    assert (weights.scales.shape, weights.scales.dtype) == ((48,), torch.uint8)
    assert weights.nested is not None
    single = nf4_weights(packed(quant_type="nf4", compress_statistics=False), torch.bfloat16)
    assert single is not None
    assert (single.nested, single.scales.dtype) == (None, torch.float32)


@pytest.mark.parametrize(
    ("linear", "dtype"),
    [
        (packed, torch.float32),  # it would compute in bfloat16
        (lambda: packed(k=96), torch.bfloat16),  # a block over two rows
        (lambda: packed(quant_type="nf4", blocksize=128), torch.bfloat16),
        (lambda: packed(quant_type="fp4"), torch.bfloat16),
        (lambda: with_a_hook(packed()), torch.bfloat16),
        (lambda: of_another_class(packed()), torch.bfloat16),
        (lambda: torch.nn.Linear(128, 24), torch.bfloat16),
    ],
)
def test_others_are_not(linear: Callable[[], Any], dtype: torch.dtype) -> None:
    assert nf4_weights(linear(), dtype) is None


def test_a_layer_is_read_where_all_of_it_can_be() -> None:
    adapter = tiny_thinker(2, quant="nf4", dtype=torch.bfloat16).adapter
    layer = adapter.nf4_layer(0)
    assert layer is not None
    assert [one.n for one in layer.qkv] == [64, 32, 32]
    gate = adapter.linears(1)["gate"]
    gate.bias = torch.nn.Parameter(torch.zeros(128))  # type: ignore[assignment]
    assert adapter.nf4_layer(1) is None, "the kernel of both branches adds no bias"
    gate.bias = None  # type: ignore[assignment]
    assert adapter.nf4_layer(1) is not None
    adapter.linears(1)["k"].bias = None  # type: ignore[assignment]
    assert adapter.nf4_layer(1) is None, "queries and values have one"
    adapter.layers[0].mlp.register_forward_hook(lambda *_: None)
    assert adapter.nf4_layer(0) is None
    assert tiny_thinker(1).adapter.nf4_layer(0) is None
