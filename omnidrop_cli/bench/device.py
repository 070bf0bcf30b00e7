"""The device that a figure belongs to, and sampling on it inside this process."""

from __future__ import annotations

import os
import platform
import time
from typing import TYPE_CHECKING

from omnidrop_cli.bench.measurement import Sample
from omnidrop_cli.bench.subprocess_run import Work, cpu_seconds
from omnidrop_cli.engine import process_memory

if TYPE_CHECKING:
    import torch


def processor() -> str:
    """The processor's model, architecture and number of cores."""
    try:
        with open("/proc/cpuinfo") as handle:
            names = [line.partition(":")[2].strip() for line in handle if line.startswith("model name")]
    except OSError:  # only Linux has it
        names = []
    return f"{names[0] if names else platform.processor() or 'CPU'}, {platform.machine()}, {os.cpu_count()} cores"


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor with the number of threads in use."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{processor()}, {threads} thread{'s' * (threads != 1)}"


def held_mb(device: torch.device) -> float:
    """Memory held now, in megabytes: allocated on CUDA, resident on the CPU."""
    import torch

    return torch.cuda.memory_allocated(device) / 1e6 if device.type == "cuda" else process_memory.now_mb()


def sample_here(device: torch.device, work: Work) -> Sample:
    """Execute `work` once in this process, the device drained at both ends. Facts are asked for after the clock has stopped."""
    from omnidrop_cli.engine.metrics import peak_mb, reset_peak, synchronise

    synchronise(device)
    reset_peak(device)
    before, cpu, start = held_mb(device), cpu_seconds(), time.perf_counter()
    tell = work()
    synchronise(device)
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    peak = peak_mb(device)
    return Sample(seconds, cpu, peak, before, tell())
