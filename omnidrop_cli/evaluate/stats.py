"""The statistics of an accuracy table: intervals, paired tests, correction for many tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Z_95 = 1.959963984540054
"""97.5 % quantile of the normal distribution."""

RESAMPLES = 10_000
"""Bootstrap resamples: the ends of a 95 % interval then vary by about 2 % of its width between seeds."""


def wilson(correct: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927), within [0, 1] also at 0 and n right answers. (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = correct / n, Z_95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return (0.0 if correct == 0 else max(0.0, centre - half)), (1.0 if correct == n else min(1.0, centre + half))


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p of McNemar's test: are the questions that only one of two methods got right split evenly between them?"""
    n, least = only_first + only_second, min(only_first, only_second)
    if n == 0:
        return 1.0
    tail = term = 1
    for i in range(least):
        term = term * (n - i) // (i + 1)
        tail += term
    return min(1.0, float(Fraction(2 * tail, 2**n)))


def paired_bootstrap(differences: Sequence[float], clusters: Sequence[str]) -> tuple[float, float]:
    """95 % percentile interval of the mean of `differences`, resampling whole `clusters` (questions of one clip are not independent)."""
    if not differences:
        return 0.0, 0.0
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    sums: NDArray[np.float64] = np.bincount(member, weights=np.asarray(differences, dtype=np.float64)).astype(np.float64)
    sizes = np.bincount(member).astype(np.float64)
    drawn = _draws(len(sums))
    low, high = np.quantile(drawn @ sums / (drawn @ sizes), [0.025, 0.975])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: adjusted p values, in the given order, for judging several tests at once."""
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    adjusted = [1.0] * len(p_values)
    running = 0.0
    for rank, at in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = running
    return adjusted


@lru_cache(maxsize=2)  # every pair of a table resamples the same clips
def _draws(clusters: int) -> NDArray[np.float32]:
    """(RESAMPLES, clusters): how often a resample drew each cluster."""
    picks = np.random.default_rng(0).integers(clusters, size=(RESAMPLES, clusters))
    drawn = np.empty((RESAMPLES, clusters), dtype=np.float32)
    for row, picked in zip(drawn, picks, strict=True):
        row[:] = np.bincount(picked, minlength=clusters)
    return drawn
