"""Matrix products in float32 of matrices in half precision."""

from __future__ import annotations

import torch
from torch import Tensor

HALF = {torch.bfloat16, torch.float16}


def float32_products(left: Tensor, right: Tensor) -> Tensor:
    """(b, k, m) float32 products of (b, k, d) and (b, d, m), with sums and results in float32 whatever the dtype."""
    if left.is_cuda and left.dtype in HALF:
        return torch.bmm(left, right, out_dtype=torch.float32)
    return torch.bmm(left.float(), right.float())  # other devices have no product that widens
