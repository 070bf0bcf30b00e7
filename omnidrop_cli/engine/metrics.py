"""Clocks, peak memory and exact FLOPs.

Knows: how to time a device that runs behind the host, whose memory peak counts, and what a prefill costs. Does not know: prompts,
methods, reports.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from omnidrop_cli.engine import process_memory


def synchronise(device: torch.device) -> None:
    """Wait until everything queued on `device` has run; a clock read without it measures the queueing."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Stopwatch:
    """Seconds per named stage, the device drained at both ends. A stage entered twice adds up; `before` are stages that ran already."""

    def __init__(self, device: torch.device | None = None, before: Mapping[str, float] | None = None) -> None:
        self.device = device
        self.seconds: dict[str, float] = dict(before or {})

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Clock the block as `name`, also when it raises."""
        self._drain()
        start = time.perf_counter()
        try:
            yield
        finally:
            self._drain()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def _drain(self) -> None:
        if self.device is not None:
            synchronise(self.device)


def reset_peak(device: torch.device) -> None:
    """Start a new memory peak (`process_memory.reset_peak` on a CPU)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        process_memory.reset_peak()


def peak_mb(device: torch.device) -> float:
    """Peak in megabytes (1e6 bytes) since `reset_peak`: allocated on CUDA, resident on the CPU."""
    return torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else process_memory.peak_mb()


def memory_kind(device: torch.device) -> str:
    """What `peak_mb` counts on this device, for the table."""
    return "allocated on the GPU" if device.type == "cuda" else "resident in the process"


def prefill_flops(
    entering: Sequence[int], *, hidden: int, heads: int, kv_heads: int, head_dim: int, mlp: int, vocab: int, last_row_only: bool = True
) -> int:
    """FLOPs (multiply and add counted as two) of a causal prefill whose layer l sees `entering[l]` tokens.

    Per layer and n tokens: query, key, value and output projections, a gated MLP of three matrices, and causal attention
    (scores and weighted sum, n (n + 1) / 2 pairs). Plus logits of the last row. Norms, rotary and softmax are left out: they
    are three orders of magnitude smaller. With `last_row_only`, as `prefill` runs it, the last layer makes keys and values of every
    row and everything else of one; papers count every row.
    """
    query, key = heads * head_dim, kv_heads * head_dim
    total = 2 * hidden * vocab
    for layer, n in enumerate(entering):
        last = last_row_only and layer == len(entering) - 1
        rows, pairs = (1, n) if last else (n, n * (n + 1) // 2)
        total += 2 * n * hidden * 2 * key + 2 * rows * hidden * (2 * query + 3 * mlp) + 2 * 2 * query * pairs
    return total
