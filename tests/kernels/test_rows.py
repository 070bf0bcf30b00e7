"""The kernels of one row against slow and obvious references: by Triton's interpreter on a CPU, by themselves on a GPU.

The interpreter cannot run the shuffles by which a GPU looks codes up. It cuts bfloat16 off where a GPU rounds it, and its products of
bfloat16 matrices are wrong, so that attention is tested in the other two.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import bitsandbytes as bnb
import pytest
import torch
from torch import Tensor
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu

from omnidrop_cli.engine.decode_step import StaticDecode, step

pytest.importorskip("triton")

from omnidrop_cli.kernels import row_attention, row_products
from omnidrop_cli.kernels.nf4_weights import NF4Weights, nf4_weights
from omnidrop_cli.kernels.row_products import Tiling, planes
from omnidrop_cli.model.decoder_layer import rotate
from omnidrop_cli.model.quantize import quantized_linear
from omnidrop_cli.model.random_weights import random_thinker, tiny_sizes
from omnidrop_cli.outputs import FrameBounds
from tests.engine.test_decode_step import assert_same, ragged

DEVICE = "cuda:0" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
ULP = {torch.float32: 2e-6, torch.float16: 2**-10, torch.bfloat16: 2**-7}


@pytest.fixture(autouse=True)
def _on_the_device() -> Iterator[None]:
    with torch.device(DEVICE):
        yield


def from_planes(x: Tensor) -> Tensor:
    return x.view(8, -1).t().reshape(-1)


def made(n: int, k: int, dtype: torch.dtype, *, bias: bool = False, nested: bool = True, seed: int = 0) -> tuple[NF4Weights, Tensor]:
    """Weights as bitsandbytes packs them, and the same in float32, as bitsandbytes unpacks them."""
    torch.manual_seed(seed)
    linear = torch.nn.Linear(k, n, bias=bias, dtype=dtype)
    packed = quantized_linear(linear, "nf4", DEVICE, dtype)
    if not nested:
        packed.weight = bnb.nn.Params4bit(linear.weight.data, quant_type="nf4", compress_statistics=False, requires_grad=False).to(DEVICE)
    weights = nf4_weights(packed, dtype)
    assert weights is not None
    state = packed.weight.quant_state
    state.dtype = torch.float32
    return weights, bnb.functional.dequantize_4bit(packed.weight.data, state)


def near(found: Tensor, expected: Tensor, dtype: torch.dtype, places: float = 1) -> None:
    """Equal to `places` of the largest value's last place."""
    assert (found.float() - expected).abs().max() <= places * ULP[dtype] * expected.abs().max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("nested", [True, False])
def test_products_of_three_matrices_with_one_row(dtype: torch.dtype, nested: bool) -> None:
    """192 inputs are three blocks, which do not fill two times two; 9 and 3 rows are no multiples of 4."""
    tiling, x = Tiling(4, 2, 1), torch.randn(192).to(dtype)
    pairs = [made(n, 192, dtype, bias=True, nested=nested, seed=n) for n in (9, 4, 3)]
    y = torch.full((16,), torch.nan, dtype=dtype)
    row_products.products(planes(x), y, [weights for weights, _ in pairs], tiling=tiling)
    near(y, torch.cat([exact @ x.float() + weights.bias.float() for weights, exact in pairs]), dtype)  # type: ignore[union-attr]


def test_a_long_row_whose_scales_have_several_scales() -> None:
    """640 blocks in groups of 256, with weights that grow from row to row."""
    linear = torch.nn.Linear(8192, 5, bias=False)
    linear.weight.data *= torch.arange(1.0, 6.0)[:, None]
    packed = quantized_linear(linear, "nf4", DEVICE, torch.float32)
    weights, x, y = nf4_weights(packed, torch.float32), torch.randn(8192), torch.full((5,), torch.nan)
    assert weights is not None
    row_products.products(planes(x), y, [weights])
    near(y, bnb.functional.dequantize_4bit(packed.weight.data, packed.weight.quant_state).float() @ x, torch.float32, places=4)


def test_a_product_is_added_to_its_own_output() -> None:
    weights, exact = made(16, 128, torch.float32)
    x, y = torch.randn(128), torch.randn(16)
    expected = y + exact @ x
    row_products.products(planes(x), y, [weights], residual=y, tiling=Tiling(4, 2, 1))
    near(y, expected, torch.float32)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gated_half_of_an_mlp(dtype: torch.dtype) -> None:
    x = torch.randn(128).to(dtype)
    (gate, opened), (up, widened) = made(16, 128, dtype, seed=1), made(16, 128, dtype, seed=2)
    y = torch.full((16,), torch.nan)
    row_products.gated(planes(x), y, gate, up, dtype, Tiling(4, 2, 1))
    near(from_planes(y), silu(opened @ x.float()) * (widened @ x.float()), dtype, places=4)  # rounded four times


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_norm_is_that_of_torch(dtype: torch.dtype) -> None:
    x, weight, y = 3 * torch.randn(192).to(dtype), torch.randn(192).to(dtype), torch.full((192,), torch.nan)
    row_products.norm(x, weight, 1e-6, y)
    near(from_planes(y), rms_norm(x.float(), (192,), weight.float(), 1e-6), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_heads_are_rotated_and_written(dtype: torch.dtype) -> None:
    heads, groups, size, row = 6, 2, 16, 37
    projected, angles = torch.randn(heads + 2 * groups, size).to(dtype), tuple(torch.randn(2, size).to(dtype))
    keys, values = torch.zeros(2, groups, 64, size, dtype=dtype)
    rotated = rotate(projected.float()[None, :, None], tuple(angle.float().view(1, 1, -1) for angle in angles))[0, :, 0]  # type: ignore[arg-type]
    queries = projected.clone()
    row_attention.rotate_and_write(queries, angles, keys, values, torch.tensor([row]))  # type: ignore[arg-type]
    near(queries[:heads], rotated[:heads], dtype)
    near(keys[:, row], rotated[heads : heads + groups], dtype)
    assert torch.equal(values[:, row], projected[heads + groups :])
    assert torch.equal(queries[heads:], projected[heads:])
    for buffer in (keys, values):
        buffer[:, row] = 0
        assert not buffer.any(), "another row was written"


@pytest.mark.parametrize(
    ("dtype", "capacity", "row"),
    [
        (torch.float32, 64, 0),
        (torch.float32, 192, 62),
        (torch.float16, 192, 63),
        (torch.float32, 192, 127),
        (torch.float32, 192, 128),
        (torch.float16, 192, 191),
        (torch.float32, 112 * 128 + 64, 112 * 128),  # more rows than two blocks for each part
    ],
)
def test_attention_to_the_rows_written(dtype: torch.dtype, capacity: int, row: int) -> None:
    """Rows behind them hold NaN, which nothing may read."""
    heads, groups, size = 6, 2, 16
    queries, (keys, values) = torch.randn(heads, size).to(dtype), torch.randn(2, groups, capacity, size).to(dtype)
    keys[:, row + 1 :] = values[:, row + 1 :] = torch.nan
    y = torch.full((heads * size,), torch.nan)
    space = row_attention.scratch(heads, size, y.device)
    for part in space:
        part.fill_(torch.nan)
    row_attention.attend(queries, keys, values, torch.tensor([row]), y, space, 0.3)
    seen = (tensor[None, :, : row + 1].float() for tensor in (keys, values))
    near(
        from_planes(y),
        scaled_dot_product_attention(queries.float()[None, :, None], *seen, scale=0.3, enable_gqa=True).flatten(),
        dtype,
        places=4,
    )


@pytest.mark.skipif(DEVICE != "cpu", reason="there the first step of a session is held against an eager one")
def test_static_steps_by_kernels_are_eager_steps() -> None:
    thinker = random_thinker(tiny_sizes(1, 4, 1, 16, mlp=64), name="random:tiny", frame_bounds=FrameBounds(56 * 56, 112 * 112))
    layer = thinker.adapter.layers[0]
    for name, linear in list(layer.named_modules()):
        if type(linear) is torch.nn.Linear:
            layer.set_submodule(name, quantized_linear(linear, "nf4", "cpu", torch.float32))
    parts = thinker.adapter.nf4_layer(0)
    assert parts is not None
    grown, kept = ragged(thinker, (70,)), ragged(thinker, (70,))
    static = StaticDecode(thinker, kept, 7, 110, 2, [parts])
    token = 7
    for offset in range(2):
        static.step()
        expected = step(thinker, grown, token, 110 + offset)
        torch.testing.assert_close(static.logits, expected, rtol=1e-4, atol=1e-4)
        token = int(expected.argmax())
        assert static.chosen(offset, offset + 1) == [token]
    static.commit(2)
    assert_same(kept, grown)


NAMES = ["_products", "_products", "_gated", "_unpack", "_attend", "_rotate", "_activate", "_pick", "_finish"]


def test_the_kernels_compile_for_gpus_that_are_not_here() -> None:
    """The shuffles in PTX are at least assembled, and a block of attention fits the shared memory of the smallest GPU."""
    command = [sys.executable, "-m", "tests.kernels.compiled"]
    run = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "0"}, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    lines = [line.split() for line in run.stdout.splitlines()]
    assert [name for name, *_ in lines] == 2 * [
        "_products",
        "_products",
        "_gated",
        "_unpack",
        "_attend",
        "_rotate",
        "_activate",
        "_pick",
        "_finish",
    ]
    assert max(int(shared) for *_, shared in lines) <= 99 * 1024
