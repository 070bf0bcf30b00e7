"""Two runs of one prompt → how far they agree.

Input: the reports of both. Output: figures of agreement.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def agreement(first: Sequence[int], second: Sequence[int]) -> tuple[float, int | None]:
    """Share of the longer answer's tokens that come before the first difference, and where that difference is (None: equal)."""
    longest = max(len(first), len(second))
    for at in range(longest):
        if at >= len(first) or at >= len(second) or first[at] != second[at]:
            return at / longest, at
    return 1.0, None


def first_token_kl(full: Tensor, pruned: Tensor) -> float:
    """KL(full || pruned) in nats between the first-token distributions of two logit rows (vocab,)."""
    p, q = full.double().log_softmax(-1), pruned.double().log_softmax(-1)
    return max(0.0, float((p.exp() * (p - q)).sum()))
