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
def runs_on(device: torch.device) -> bool:
    """Whether Triton's kernels run on `device`, found out by one, once. Takes about a second on a machine's first call."""
    if device.type != "cuda" or torch.version.hip or torch.cuda.get_device_capability(device) < AMPERE:
        return False
    try:
        from omnidrop_cli.kernels.trial import trial

        return trial(device)
    except Exception:  # no Triton, no compiler, no folder for its files, a card that it does not support: whatever it raises
        return False
