"""Intervals and tests against textbook values, slow enumeration and invariants."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.evaluate import stats


def test_wilson_matches_published_values() -> None:
    # Newcombe 1998, table I: 81 of 263 and 15 of 148 (method 3).
    assert stats.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert stats.wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert stats.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert stats.wilson(8, 10) == pytest.approx((0.490, 0.943), abs=5e-4)
    assert stats.wilson(0, 0) == (0.0, 1.0)


@given(st.integers(1, 4000), st.data())
def test_wilson_holds_the_share_and_mirrors(n: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, n))
    low, high = stats.wilson(correct, n)
    assert 0.0 <= low <= correct / n <= high <= 1.0
    assert stats.wilson(n - correct, n) == pytest.approx((1 - high, 1 - low))


@given(st.integers(0, 9), st.integers(0, 9))
def test_mcnemar_equals_enumeration(b: int, c: int) -> None:
    n = b + c
    outcomes = [sum(flips) for flips in product((0, 1), repeat=n)] if n <= 12 else None
    if outcomes is None:
        outcomes = [k for k in range(n + 1) for _ in range(math.comb(n, k))]
    extreme = sum(abs(k - n / 2) >= abs(b - n / 2) for k in outcomes)
    assert stats.mcnemar(b, c) == pytest.approx(extreme / len(outcomes))


def test_mcnemar_survives_a_whole_benchmark() -> None:
    assert stats.mcnemar(1500, 1500) == 1.0
    assert 0 < stats.mcnemar(1200, 1500) < 1e-7
    assert stats.mcnemar(0, 5000) == 0.0  # below the smallest float, not an overflow


def test_bootstrap_resamples_clips_not_questions() -> None:
    # Ten clips of forty equal questions: only ten independent observations, so the interval is as wide as that of ten.
    differences = [float(clip % 2) for clip in range(10) for _ in range(40)]
    clustered = stats.paired_bootstrap(differences, [f"clip{at // 40}" for at in range(400)])
    naive = stats.paired_bootstrap(differences, [str(at) for at in range(400)])
    assert clustered[1] - clustered[0] > 5 * (naive[1] - naive[0])
    assert clustered == pytest.approx((0.2, 0.8), abs=0.05)
    assert stats.paired_bootstrap(differences, [f"clip{at // 40}" for at in range(400)]) == clustered


def test_bootstrap_of_independent_questions_meets_the_normal_interval() -> None:
    differences = [float(at % 3 - 1) for at in range(60)]
    names = [str(at) for at in range(60)]
    low, high = stats.paired_bootstrap(differences, names)
    assert low < 0 < high
    assert (high - low) / 2 == pytest.approx(1.96 * math.sqrt(2 / 3 / 60), rel=0.08)
    assert stats.paired_bootstrap([], []) == (0.0, 0.0)


def test_holm_known_example() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_order_and_bounds(p_values: list[float]) -> None:
    adjusted = stats.holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    by_p = [q for _, q in sorted(zip(p_values, adjusted, strict=True))]
    assert by_p == sorted(by_p)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.999))
def test_an_adjusted_p_is_below_a_level_where_holm_s_procedure_rejects(p_values: list[float], level: float) -> None:
    """The procedure itself: the smallest p against level / m, the next against level / (m - 1), until one is not rejected."""
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    rejected = set()
    for step, at in enumerate(order):
        if (len(p_values) - step) * p_values[at] > level:
            break
        rejected.add(at)
    assert {at for at, q in enumerate(stats.holm(p_values)) if q <= level} == rejected
