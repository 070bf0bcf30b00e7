"""Matrix products and copies per second of a device, measured: the least time that a prefill's FLOPs can take on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from omnidrop_cli.engine.metrics import synchronise

REPEATS = 6


@dataclass(frozen=True, slots=True)
class Floor:
    """Measured rates of one device: FLOP/s of matrix products in the compute dtype, bytes/s of a copy (read plus write)."""

    matmul_flops: float
    copy_bytes: float

    def seconds(self, flops: float) -> float:
        """Seconds of `flops` at the measured rate of matrix products."""
        return flops / self.matmul_flops


def measure_floor(device: torch.device, dtype: torch.dtype, *, rows: int = 2048, hidden: int = 3584, wide: int = 18944) -> Floor:
    """Best of six of (rows, hidden) x (hidden, wide), and of a copy of 256 MB (64 MB on a CPU)."""
    x = torch.randn(rows, hidden, device=device).to(dtype)
    w = torch.randn(hidden, wide, device=device).to(dtype)
    numbers = (64 if device.type == "cpu" else 256) * 2**20 // 4
    source = torch.empty(numbers, device=device)
    target = torch.empty_like(source)
    product = min(seconds_of(lambda: torch.mm(x, w), device) for _ in range(REPEATS))
    copy = min(seconds_of(lambda: target.copy_(source), device) for _ in range(REPEATS))
    return Floor(matmul_flops=2 * rows * hidden * wide / product, copy_bytes=2 * 4 * numbers / copy)


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, the device drained before and after."""
    synchronise(device)
    start = time.perf_counter()
    call()
    synchronise(device)
    return time.perf_counter() - start
