"""How many audio and video tokens leave each decoder layer: the progressive schedule, and the one that meets a mean.

Input: drop rates over depth (OmniDrop Sec. 3.1). Output: exact counts, on the host.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

Shape = Literal["sigmoid", "exponential"]

MAX_RATE = 0.5
"""Largest solved `p_final`: the diversity score picks among the 2k lowest, so no layer should drop more than half (Alg. 1)."""

_EPSILON = 1e-9  # 0.29 * 100 is 28.999999999999996 in binary; the paper's floor means 29


@dataclass(frozen=True, slots=True)
class Schedule:
    """Share of the alive audio and video tokens dropped after each of `layers` layers; the last layer never drops.

    Sigmoid (Eq. 3, 4): p_l = p_init + (p_final - p_init) * sigmoid(beta * (l / L - t_mid)), l counted from 0.
    Exponential (the paper's ablation): p_l = p_init * (p_final / p_init) ** (l / (L - 2)), which needs p_init > 0.
    """

    layers: int
    p_init: float = 0.0
    p_final: float = 0.0
    t_mid: float = 0.5
    beta: float = 20.0
    shape: Shape = "sigmoid"

    def rates(self) -> tuple[float, ...]:
        """p_l for every layer."""
        return (*(self._rate(layer) for layer in range(self.layers - 1)), 0.0)

    def _rate(self, layer: int) -> float:
        if self.shape == "exponential":
            return self.p_init * (self.p_final / self.p_init) ** (layer / max(1, self.layers - 2)) if self.p_init else 0.0
        rise = 1 / (1 + math.exp(-self.beta * (layer / self.layers - self.t_mid)))
        return self.p_init + (self.p_final - self.p_init) * rise

    def keep_counts(self, entering: int) -> tuple[int, ...]:
        """Tokens leaving each layer when `entering` reach layer 0: k_l = floor(p_l * n_l) go (Eq. 6), but never the last one."""
        counts = []
        alive = entering
        for rate in self.rates():
            alive = max(min(alive, 1), alive - math.floor(rate * alive + _EPSILON))
            counts.append(alive)
        return tuple(counts)


@lru_cache(maxsize=256)
def fit(schedule: Schedule, entering: int, total: int) -> tuple[Schedule, tuple[int, ...]]:
    """`schedule` with the `p_final` in [0, MAX_RATE] whose counts sum to `total` over the layers, and those counts.

    Counts shrink as `p_final` grows, so bisection finds the two neighbours around `total`; `blend` then meets it to within one.
    A `total` beyond both ends of the range is met by blending with no cut at all, or with one survivor from layer 0 on.
    """

    def counts(p_final: float) -> tuple[int, ...]:
        return replace(schedule, p_final=p_final).keep_counts(entering)

    gentle, harsh = 0.0, MAX_RATE
    if sum(counts(gentle)) < total:
        return replace(schedule, p_final=gentle), blend((entering,) * schedule.layers, counts(gentle), total)
    if sum(counts(harsh)) > total:
        return replace(schedule, p_final=harsh), blend(counts(harsh), _one_survivor(schedule.layers, entering), total)
    for _ in range(50):
        middle = (gentle + harsh) / 2
        if sum(counts(middle)) >= total:
            gentle = middle
        else:
            harsh = middle
    return replace(schedule, p_final=harsh), blend(counts(gentle), counts(harsh), total)


def blend(upper: tuple[int, ...], lower: tuple[int, ...], total: int) -> tuple[int, ...]:
    """`upper` up to some layer and `lower` after it, so that the sum is `total` to within one.

    Both never rise with depth, end in two equal counts and are ordered `upper` >= `lower`; so does and is the result.
    """
    counts = list(lower)
    missing = total - sum(lower)
    for layer in range(len(counts) - 1):
        last = layer == len(counts) - 2  # the last layer cannot cut: its count moves with the one before
        step = max(0, min(upper[layer] - lower[layer], missing // 2 if last else missing))
        counts[layer] += step
        missing -= step
        if last:
            counts[layer + 1] += step
    return tuple(counts)


def _one_survivor(layers: int, entering: int) -> tuple[int, ...]:
    return (min(entering, 1),) * layers if layers > 1 else (entering,)


def diversity_layer(layers: int) -> int:
    """First layer that selects by temporal diversity: 14 of 28 and 19 of 36 as published, the middle elsewhere."""
    return 19 if layers == 36 else layers // 2


PAPER_LAYERS = 28

PAPER_RATES = {
    ("paper-30", 28): (0.0, 0.20, 0.50),
    ("paper-20", 28): (0.02, 0.50, 0.50),
    ("paper-30", 36): (0.0, 0.15, 0.50),
    ("paper-20", 36): (0.02, 0.50, 0.55),
}
"""(p_init, p_final, t_mid) by preset and depth, as published for Qwen2.5-Omni 7B and 3B."""


def published(preset: str, layers: int) -> Schedule:
    """The paper's schedule. Depths without published constants take the 28-layer ones, compounded to their own depth.

    A rate p per layer of 28 becomes 1 - (1 - p) ** (28 / L), at most MAX_RATE: 0.2 gives 0.159 at 36 layers, where the paper uses 0.15.
    """
    if (preset, layers) in PAPER_RATES:
        p_init, p_final, t_mid = PAPER_RATES[preset, layers]
        return Schedule(layers, p_init, p_final, t_mid)
    p_init, p_final, t_mid = PAPER_RATES[preset, PAPER_LAYERS]
    return Schedule(layers, _compounded(p_init, layers), _compounded(p_final, layers), t_mid)


def _compounded(rate: float, layers: int) -> float:
    return min(MAX_RATE, 1 - math.pow(1 - rate, PAPER_LAYERS / layers))
