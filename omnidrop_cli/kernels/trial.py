"""The smallest kernel, which shows whether Triton works on a device."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _add_one(x):
    tl.store(x, tl.load(x) + 1)


def trial(device: torch.device) -> bool:
    """Whether a kernel does what it says. Raises what Triton raises where it cannot be built. Waits for the device."""
    number = torch.ones(1, device=device)
    with torch.cuda.device(device):
        _add_one[(1,)](number, enable_fp_fusion=True)  # Triton 3.9 warns without it
    return number.item() == 2
