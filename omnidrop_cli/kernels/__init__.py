"""Whether kernels written in Triton run on a device.

They are for NVIDIA GPUs from Ampere on, and optional: where they do not run, PyTorch's own kernels do the same work in more launches.
Triton comes with PyTorch for CUDA on Linux. It builds its launcher with a C compiler, which not every machine has.
"""

from __future__ import annotations

from functools import lru_cache

import torch

AMPERE = (8, 0)
"""Compute capability from which NVIDIA GPUs compute in bfloat16 and have the shared memory that the kernels use."""


@lru_cache
def problem(device: torch.device) -> str | None:
    """Why Triton's kernels do not run on `device`; None where one ran. Takes about a second on a machine's first call."""
    if device.type != "cuda":
        return "no NVIDIA GPU"
    if torch.version.hip:
        return "PyTorch is built for AMD GPUs"
    if torch.cuda.get_device_capability(device) < AMPERE:
        return "the GPU is older than Ampere"
    try:
        from omnidrop_cli.kernels.trial import trial

        return None if trial(device) else "a kernel gave a wrong number"
    except Exception as error:  # no Triton, no compiler, no folder for its files, a card that it does not support: whatever it raises
        return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def runs_on(device: torch.device) -> bool:
    """Whether Triton's kernels run on `device`."""
    return problem(device) is None
