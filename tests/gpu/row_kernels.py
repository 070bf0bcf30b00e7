"""Times the kernels for one row at the sizes of the 7B, with errors: `python -m tests.gpu.row_kernels`, half a minute on an H100.

Every kernel is timed in a CUDA graph, over copies of what it reads that are larger together than the GPU's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

from omnidrop_cli.engine.masked_attention import masked_attention
from omnidrop_cli.kernels import row_attention, row_products
from omnidrop_cli.kernels.nf4_weights import NF4Weights, nf4_weights
from omnidrop_cli.kernels.row_products import GATED, LONG, SHORT, Tiling
from omnidrop_cli.model.quantize import quantized_linear

HIDDEN, KV, MLP, HEADS, GROUPS, SIZE = 3584, 512, 18944, 28, 4, 128

CACHED = 160e6
"""Bytes of weights that one round reads: three times the cache of an H100."""

TILINGS = (SHORT, LONG, GATED, Tiling(2, 64, 4), Tiling(4, 8, 1), Tiling(2, 64, 8))

Call = Callable[[], object]


def timed(calls: Sequence[Call], rounds: int = 5) -> float:
    """Microseconds of one of `calls`, captured one behind the other."""
    with torch.cuda.stream(torch.cuda.Stream()):
        for call in calls[:2]:
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    graph.replay()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    times = []
    for _ in range(rounds):
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1000 / len(calls))
    return min(times)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


def report(name: str, us: float, nbytes: float, found: Tensor, expected: Tensor) -> None:
    error = (found.float() - expected.float()).abs().max() / expected.abs().max()
    print(f"{name:60} {us:8.2f} us {nbytes / us / 1e3:6.0f} GB/s  error {error.item():.5f}", flush=True)


def quantised(n: int, k: int, bias: bool = False) -> tuple[Any, NF4Weights, Tensor]:
    """A linear layer of bitsandbytes, its parts, and its weights in float32."""
    import bitsandbytes as bnb

    linear = torch.nn.Linear(k, n, bias=bias, device="cuda", dtype=torch.bfloat16)
    torch.nn.init.normal_(linear.weight, std=k**-0.5)
    made = quantized_linear(linear, "nf4", "cuda")
    weights = nf4_weights(made, torch.bfloat16)
    if weights is None:
        raise RuntimeError("bitsandbytes has packed a weight in a way that the kernels do not read")
    return made, weights, bnb.functional.dequantize_4bit(made.weight.data, made.weight.quant_state).float()


def copies(made: Sequence[tuple[Any, NF4Weights, Tensor]]) -> tuple[list[tuple[NF4Weights, ...]], int]:
    """Copies of matrices that are read together, and their bytes."""
    nbytes = sum(weights.words.nbytes + weights.scales.nbytes for _, weights, _ in made)
    count = max(4, int(CACHED / nbytes) + 1)
    return [
        tuple(replace(weights, words=weights.words.clone(), scales=weights.scales.clone()) for _, weights, _ in made) for _ in range(count)
    ], nbytes


def products(name: str, sizes: Sequence[int], k: int) -> None:
    """Matrices with the same input, as bitsandbytes multiplies them and by the kernel. Several have a bias, one has a residual."""
    import bitsandbytes as bnb

    x, several = noise(k), len(sizes) > 1
    made = [quantised(n, k, several) for n in sizes]
    sets, nbytes = copies(made)
    residual = None if several else noise(sizes[0])
    expected = torch.cat([exact @ x.float() + (0 if weights.bias is None else weights.bias.float()) for _, weights, exact in made])
    expected = expected if residual is None else expected + residual.float()
    packed = [[(linear.weight.data.clone(), linear.weight.quant_state) for linear, _, _ in made] for _ in sets]
    calls = [partial(bnb.matmul_4bit, x[None], weight, quant_state=state) for one in packed for weight, state in one]
    us = timed(calls) * len(sizes)
    print(f"{name:10} bitsandbytes {us:8.2f} us {nbytes / us / 1e3:6.0f} GB/s", flush=True)
    y, row = noise(sum(sizes)), row_products.planes(x)
    for tiling in TILINGS:
        us = timed([partial(row_products.products, row, y, one, residual, tiling) for one in sets])
        report(f"{name:10} {tiling}", us, nbytes, y, expected)


def gated() -> None:
    x, made = noise(HIDDEN), [quantised(MLP, HIDDEN) for _ in range(2)]
    sets, nbytes = copies(made)
    opened, up = ((exact @ x.float()).bfloat16() for _, _, exact in made)
    y, row, expected = torch.zeros(MLP, device="cuda"), row_products.planes(x), row_products.planes(silu(opened) * up)
    for tiling in TILINGS:
        us = timed([partial(row_products.gated, row, y, *one, torch.bfloat16, tiling) for one in sets])
        report(f"gate, up   {tiling}", us, nbytes, y, expected)


def attention(rows: int) -> None:
    """Attention behind `rows` rows by products over a mask, and by the kernels."""
    capacity = -(-(rows + 256) // 64) * 64
    layers = max(2, min(20, int(4e9 / (capacity * GROUPS * SIZE * 4))))
    buffers = [(noise(1, GROUPS, capacity, SIZE), noise(1, GROUPS, capacity, SIZE)) for _ in range(layers)]
    query, mask, row = noise(1, HEADS, 1, SIZE), torch.full((capacity,), float("-inf"), device="cuda"), torch.tensor([rows - 1]).cuda()
    mask[:rows] = 0
    nbytes, scale = rows * GROUPS * SIZE * 4, SIZE**-0.5
    expected = masked_attention(query, *buffers[0], mask, scale).flatten()
    us = timed([partial(masked_attention, query, keys, values, mask, scale) for keys, values in buffers])
    print(f"attention behind {rows} rows, products: {us:.2f} us", flush=True)
    y, space = torch.zeros(HEADS * SIZE, device="cuda"), row_attention.scratch(HEADS, SIZE, query.device)
    calls = [partial(row_attention.attend, query[0, :, 0], keys[0], values[0], row, y, space, scale) for keys, values in buffers]
    us = timed(calls)
    calls[0]()
    report(f"attention behind {rows} rows", us, nbytes, y, row_products.planes(expected))


def main() -> None:
    torch.manual_seed(0)
    gated()
    products("down", [HIDDEN], MLP)
    products("q, k, v", [HIDDEN, KV, KV], HIDDEN)
    products("o", [HIDDEN], HIDDEN)
    x, y = noise(HIDDEN), torch.zeros(HIDDEN, device="cuda")
    print(f"norm {timed([partial(row_products.norm, x, x, 1e-6, y)] * 50):.2f} us")
    for rows in (3_312, 10_264, 101_568):
        attention(rows)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
