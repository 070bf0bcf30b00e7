"""The device a figure belongs to, and measuring on it inside this process.

Knows: draining a device, which peak counts on it. Does not know what is measured.
"""

from __future__ import annotations

import time

import torch

from omnidrop_cli.bench.measurement import Sample, processor
from omnidrop_cli.bench.subprocess_run import Work, cpu_seconds
from omnidrop_cli.engine import process_memory
from omnidrop_cli.engine.metrics import peak_mb, reset_peak, synchronise


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's class with the threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{processor()}, {threads} thread{'s' * (threads != 1)}"


def held_mb(device: torch.device) -> float:
    """Memory held now: allocated on CUDA, resident on the CPU."""
    return torch.cuda.memory_allocated(device) / 1e6 if device.type == "cuda" else process_memory.now_mb()


def sample_here(device: torch.device, work: Work) -> Sample:
    """One run of `work` in this process, the device drained at both ends."""
    synchronise(device)
    reset_peak(device)
    before, cpu, start = held_mb(device), cpu_seconds(), time.perf_counter()
    tell = work()
    synchronise(device)
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    peak = peak_mb(device)
    return Sample(seconds, cpu, peak, before, tell())
