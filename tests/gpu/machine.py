"""The device that a run measures on: clocks, memory peaks, loaded models, time left."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from omnidrop_cli.config import ModelConfig, PruningConfig

if TYPE_CHECKING:
    from omnidrop_cli.model.thinker import Thinker

T = TypeVar("T")
Facts = dict[str, Any]

Mark = float | torch.cuda.Event
"""A moment on the device's clock."""


@dataclass(slots=True)
class Machine:
    """A GPU, or with `tiny` a CPU and a model in miniature, which shows that the script itself works.

    Args:
        budget_s: Seconds after which stages are skipped.
    """

    tiny: bool
    budget_s: float
    start: float = field(default_factory=time.monotonic)
    loads: Facts = field(default_factory=dict)
    _thinker: tuple[str, Thinker] | None = None

    @property
    def device(self) -> torch.device:
        return torch.device("cpu" if self.tiny else "cuda:0")

    @property
    def cuda(self) -> bool:
        return not self.tiny

    @property
    def left_s(self) -> float:
        return self.budget_s - (time.monotonic() - self.start)

    def synchronise(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def clock(self, call: Callable[[], T], times: int = 1) -> tuple[float, T]:
        """Mean seconds of `times` calls, the device drained before and after, and the last result."""
        self.synchronise()
        start = time.perf_counter()
        result = call()
        for _ in range(times - 1):
            result = call()
        self.synchronise()
        return (time.perf_counter() - start) / times, result

    def mark(self) -> Mark:
        """This moment of the device's work; nothing waits for it."""
        if self.tiny:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, first: Mark, last: Mark) -> float:
        """Seconds from one mark to a later one. The device must have passed both."""
        if isinstance(first, float) or isinstance(last, float):
            return float(last) - float(first)  # type: ignore[arg-type]
        return first.elapsed_time(last) / 1e3

    def free(self) -> None:
        """Give unused memory back to the device and start a new peak."""
        if self.cuda:
            gc.collect()
            torch.cuda.init()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> Facts:
        """Megabytes (1e6 bytes) at most since `free`; 0 on a CPU."""
        if self.tiny:
            return {"allocated_mb": 0, "reserved_mb": 0}
        return {
            "allocated_mb": round(torch.cuda.max_memory_allocated(self.device) / 1e6),
            "reserved_mb": round(torch.cuda.max_memory_reserved(self.device) / 1e6),
        }

    def thinker(self, size: str) -> Thinker:
        """A thinker of `size` with random NF4 weights. One at a time is kept."""
        if self._thinker is None or self._thinker[0] != size:
            self._thinker = None
            self.free()
            seconds, thinker = self.clock(partial(self._load, size))
            self.loads[size] = {"seconds": round(seconds, 1), "weights_mb": round(thinker.weights_mb), **self.peak()}
            self._thinker = (size, thinker)
        return self._thinker[1]

    def _load(self, size: str) -> Thinker:
        if self.tiny:
            from omnidrop_cli.model.random_weights import tiny_thinker

            return tiny_thinker(6)
        from omnidrop_cli.model.load import load

        return load(ModelConfig(f"random:{size}", quant="nf4", device="cuda:0"))


def choice(label: str) -> PruningConfig:
    """`NAME@KEEP` or `NAME` as a choice of method."""
    name, _, keep = label.partition("@")
    return PruningConfig(name, float(keep) if keep else None, options={"selector": "untrained"} if name == "omnisift" else {})
