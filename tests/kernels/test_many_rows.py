"""Kernels for many rows against bitsandbytes and PyTorch: by Triton's interpreter on a CPU, by themselves on a GPU."""

from __future__ import annotations

from dataclasses import replace

import bitsandbytes as bnb
import pytest
import torch

from omnidrop_cli.bench.synthetic import noise_features, papers_prompt
from omnidrop_cli.engine.encode import embed
from omnidrop_cli.engine.prefill import Prefilled, prefill
from omnidrop_cli.kernels.nf4_weights import nf4_weights
from omnidrop_cli.model import decoder_layer
from omnidrop_cli.model.decoder_layer import rotate as rotate_slowly
from omnidrop_cli.model.nf4_products import NF4Products, agree
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.prune.methods import get_method
from tests.gpu.machine import choice

pytest.importorskip("triton")
from omnidrop_cli.kernels.many_rows import activate, rotate, unpack

DEVICE = "cuda:0" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(("rows", "columns"), [(1, 64), (7, 192), (96, 256)])
def test_unpacked_weights_are_those_of_bitsandbytes(rows: int, columns: int, dtype: torch.dtype, double: bool) -> None:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows)).to(dtype)
    layer = bnb.nn.Linear4bit(columns, rows, bias=False, compute_dtype=dtype, quant_type="nf4", compress_statistics=double)
    layer.weight = bnb.nn.Params4bit(weight, False, quant_type="nf4", compress_statistics=double)
    layer = layer.to(DEVICE)
    parts = nf4_weights(layer, dtype)
    assert parts is not None
    out = torch.empty(rows, columns, dtype=dtype, device=DEVICE)
    unpack(parts, out)
    expected = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(dtype)
    cut = DEVICE == "cpu" and dtype == torch.bfloat16  # Triton's interpreter does not round
    torch.testing.assert_close(out, expected, rtol=0.008 if cut else 0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_rotated_heads_are_those_of_the_formula(dtype: torch.dtype) -> None:
    noise = torch.Generator().manual_seed(1)
    projected = torch.randn(37, 5, 16, generator=noise).to(DEVICE, dtype)
    cos, sin = (torch.randn(37, 16, generator=noise).to(DEVICE, dtype) for _ in range(2))
    heads = projected.float().transpose(0, 1)[None]
    expected = rotate_slowly(heads[:, :3], (cos.float()[None], sin.float()[None]))
    rotate(projected, cos, sin, 3)
    found = projected.float().transpose(0, 1)[None]
    torch.testing.assert_close(found[:, :3], expected, rtol=0.008, atol=0.01 if dtype == torch.bfloat16 else 1e-5)
    assert torch.equal(found[:, 3:], heads[:, 3:]), "values are not turned"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_activation_is_silu_times_the_other_branch(dtype: torch.dtype) -> None:
    gate, up = torch.randn(2, 3, 1000, generator=torch.Generator().manual_seed(2)).to(DEVICE, dtype)
    expected = torch.nn.functional.silu(gate) * up
    assert activate(gate, up) is gate
    torch.testing.assert_close(gate, expected, rtol=0.02 if dtype == torch.bfloat16 else 1e-6, atol=1e-6)


def test_the_check_tells_right_kernels_from_wrong_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    thinker = tiny_thinker(1, 4, 2, 64, device=DEVICE, dtype=torch.bfloat16, quant="nf4")
    layer, modules = thinker.adapter.nf4_layer(0), thinker.adapter.layer(0)
    assert layer is not None
    products = NF4Products(layer)
    assert agree(products, modules)
    monkeypatch.setattr("omnidrop_cli.kernels.many_rows.activate", lambda gate, up: gate.mul_(up))
    assert not agree(products, modules)


def test_a_prefill_by_kernels_is_one_by_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same tokens stay, and the logits differ by rounding. Fewer rows than `MANY` pass the modules."""
    thinker = tiny_thinker(2, 4, 2, 64, device=DEVICE, dtype=torch.bfloat16, quant="nf4")
    prompt = papers_prompt(thinker, 2)
    features = noise_features(thinker, prompt)

    def run() -> Prefilled:
        return prefill(thinker, prompt, embed(thinker, prompt, features), features, get_method(choice("omnidrop@0.4")))

    # On some CPUs bitsandbytes packs the weights in another way when they are first used.
    kernels = [NF4Products(layer) for layer in map(thinker.adapter.nf4_layer, range(2)) if layer is not None]
    monkeypatch.setattr(decoder_layer, "MANY", 64)
    layers = thinker.adapter._by_parts
    monkeypatch.setattr(thinker.adapter, "_by_parts", tuple(replace(layer, many=None) for layer in layers))
    expected = run()
    by_kernels = tuple(replace(layer, many=many) for layer, many in zip(layers, kernels, strict=True))
    monkeypatch.setattr(thinker.adapter, "_by_parts", by_kernels)
    found = run()
    assert found.cache.lengths == expected.cache.lengths
    for mine, theirs in zip(found.trace.kept, expected.trace.kept, strict=True):
        assert len(set(mine.tolist()) & set(theirs.tolist())) >= 0.95 * len(theirs), "near ties may fall otherwise"
    torch.testing.assert_close(found.logits, expected.logits, rtol=0.05, atol=0.05 * float(expected.logits.abs().max()))
