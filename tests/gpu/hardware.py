"""The machine without omnidrop: versions, rates of products and copies, attention kernels, quantised products."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from statistics import median

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import embedding, linear, scaled_dot_product_attention

from omnidrop_cli.model.products import float32_products
from omnidrop_cli.prune import packing
from tests.gpu.machine import Facts, Machine

PACKAGES = ("torch", "transformers", "accelerate", "bitsandbytes", "av", "triton", "flash_attn")
NF4_SHAPES = ((3584, 3584), (512, 3584), (18944, 3584), (3584, 18944), (4608, 3584), (37888, 3584))
LENGTHS = (3001, 3313, 3701, 4099)
BACKENDS = {
    "default": None,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}


def environment(machine: Machine) -> Facts:
    facts: Facts = {"python": sys.version.split()[0], "cpus": os.cpu_count()}
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = None
    if machine.cuda:
        facts |= {
            "gpu": torch.cuda.get_device_name(0),
            "capability": torch.cuda.get_device_capability(0),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "free_and_total_mb": [round(size / 1e6) for size in torch.cuda.mem_get_info(0)],
        }
    return facts


def ceilings(machine: Machine) -> Facts:
    """Rates that nothing can exceed: bf16 products, copies (read plus write), kernels launched one by one and from a graph."""
    from omnidrop_cli.bench.floor import measure_floor

    size = (8192, 8192, 8192) if machine.cuda else (64, 64, 64)
    floor = measure_floor(machine.device, torch.bfloat16, rows=size[0], hidden=size[1], wide=size[2])
    number = torch.zeros(1, device=machine.device)
    launch, _ = machine.clock(lambda: number.add_(1), 2000)
    return {
        "matmul_tflop_per_s": round(floor.matmul_flops / 1e12, 1),
        "copy_gb_per_s": round(floor.copy_bytes / 1e9),
        "eager_launch_us": round(launch * 1e6, 2),
    }


def attention_plans(machine: Machine) -> Facts:
    """Milliseconds of attention at a length never seen before, and again: what a first prefill and an eager token pay."""
    facts: Facts = {}
    for name, backend in BACKENDS.items():
        for shape in ("prefill", "decode", "masked"):
            cold, warm = [], []
            try:
                with sdpa_kernel(backend) if backend is not None else nullcontext():
                    for length in LENGTHS if machine.cuda else (65, 70):
                        call = _attention(machine, shape, length)
                        cold.append(machine.clock(call)[0])
                        warm.append(machine.clock(call, 10)[0])
            except RuntimeError as error:
                facts[f"{name}, {shape}"] = str(error)[:120]
                continue
            facts[f"{name}, {shape}"] = {"cold_ms": _ms(cold), "warm_ms": _ms(warm)}
    return facts


def _attention(machine: Machine, shape: str, length: int) -> partial[torch.Tensor]:
    """7B attention: 28 heads over 4 key heads of 128. "masked" is a captured step's: whole buffers of 64 rows, one query, a mask."""
    device, dtype = machine.device, torch.bfloat16
    rows = -(-length // 64) * 64 if shape == "masked" else length
    keys = torch.randn(1, 4, rows + 256, 128, device=device, dtype=dtype)[:, :, :rows]
    queries = torch.randn(1, 28, length if shape == "prefill" else 1, 128, device=device, dtype=dtype)
    mask = torch.zeros(1, 1, 1, rows, device=device, dtype=dtype) if shape == "masked" else None
    if shape == "masked":
        queries = queries.reshape(1, 4, 7, 128)
    attend = partial(scaled_dot_product_attention, queries, keys, keys.clone(), attn_mask=mask)
    return partial(attend, is_causal=shape == "prefill", enable_gqa=shape != "masked")


def nf4_products(machine: Machine) -> Facts:
    """Milliseconds of an NF4 product of M rows against the same product in bf16, and its distance from the dequantised weights'. The last
    two shapes are queries, keys and values in one product, and both branches of an MLP."""
    import bitsandbytes as bnb

    facts: Facts = {}
    for (n, k), double in product(NF4_SHAPES if machine.cuda else ((256, 256),), (True, False)):
        dense = torch.nn.Linear(k, n, bias=False, dtype=torch.bfloat16, device=machine.device)
        layer = bnb.nn.Linear4bit(k, n, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4", compress_statistics=double)
        layer.weight = bnb.nn.Params4bit(dense.weight.data.cpu(), False, quant_type="nf4", compress_statistics=double).to(machine.device)
        exact = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).float().view(n, k)
        for rows in (1, 4, 7, 72, 256, 1200, 2048, 4096, 10264) if machine.cuda else (1, 8):
            x = torch.randn(rows, k, device=machine.device, dtype=torch.bfloat16)
            with torch.inference_mode():
                expected = x.float() @ exact.T
                error = float((layer(x).float() - expected).norm() / expected.norm())
                quantised = median([machine.clock(partial(layer, x), 5)[0] for _ in range(3)])
                plain = median([machine.clock(partial(linear, x, dense.weight), 5)[0] for _ in range(3)])
            label = f"{n}x{k}, {rows} rows{'' if double else ', scales in float32'}"
            facts[label] = {"nf4_ms": round(quantised * 1e3, 3), "bf16_ms": round(plain * 1e3, 3), "error": error}
    return facts


def similarities(machine: Machine) -> Facts:
    """Milliseconds of what selection does with video tokens: products for similarities by the type they are computed in, distances of
    coordinates, sorts, and ways to gather rows."""
    count, width = (8640, 3584) if machine.cuda else (64, 32)
    half = torch.randn(count, width, device=machine.device).bfloat16()
    single, scores = half.float(), torch.randn(86_400 if machine.cuda else 100, device=machine.device)
    rows, places = torch.arange(0, count, 2, device=machine.device), torch.rand(count // 4, 3, device=machine.device)
    calls = {
        "gather, index_select": lambda: half[None].index_select(1, rows),
        "gather, index": lambda: half[rows],
        "gather, embedding": lambda: embedding(rows, half),
        "coordinates, cdist": lambda: torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist"),
        "coordinates, by axis": lambda: packing._squared(places, places).sqrt_(),
        "float32": lambda: single @ single.T,
        "bfloat16, sums in float32": lambda: float32_products(half[None], half.T[None]),
        "bfloat16": lambda: half @ half.T,
        "sort of 86,400 float32": lambda: scores.sort(stable=True),
        "sort of 86,400 int64": lambda: scores.long().sort(stable=True),
        "sort of 86,400 uint8": lambda: (scores > 0).to(torch.uint8).sort(stable=True),
    }
    return {name: {"ms": round(median([machine.clock(call, 3)[0] for _ in range(3)]) * 1e3, 3)} for name, call in calls.items()}


def _ms(seconds: list[float]) -> list[float]:
    return [round(value * 1e3, 3) for value in seconds]
