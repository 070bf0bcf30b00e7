"""Schedule arithmetic against the formulas, and the rows of the paper's settings."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.prune.schedule import MAX_RATE, Schedule, blend, diversity_layer, fit, published

RATE = st.floats(0, 0.9)


@given(layers=st.integers(1, 60), p_init=RATE, p_final=RATE, t_mid=st.floats(0, 1), beta=st.floats(0.1, 50))
def test_sigmoid_rates_follow_the_formula(layers: int, p_init: float, p_final: float, t_mid: float, beta: float) -> None:
    rates = Schedule(layers, p_init, p_final, t_mid, beta).rates()
    assert len(rates) == layers
    assert rates[-1] == 0
    for layer in range(layers - 1):
        s = 1 / (1 + math.exp(-beta * (layer / layers - t_mid)))
        assert rates[layer] == pytest.approx(p_init + (p_final - p_init) * s)


@given(layers=st.integers(3, 60), p_init=st.floats(0.001, 0.9), p_final=st.floats(0.001, 0.9))
def test_exponential_rates_start_and_end_where_they_should(layers: int, p_init: float, p_final: float) -> None:
    rates = Schedule(layers, p_init, p_final, shape="exponential").rates()
    assert rates[0] == pytest.approx(p_init)
    assert rates[-2] == pytest.approx(p_final)
    assert rates[-1] == 0


@given(layers=st.integers(1, 40), p_init=RATE, p_final=RATE, entering=st.integers(0, 5000))
def test_counts_are_the_cumulative_floor(layers: int, p_init: float, p_final: float, entering: int) -> None:
    schedule = Schedule(layers, p_init, p_final)
    alive = entering
    for rate, count in zip(schedule.rates(), schedule.keep_counts(entering), strict=True):
        assert count >= min(entering, 1)
        assert count == max(min(alive, 1), alive - math.floor(rate * alive + 1e-9))
        alive = count


def test_a_rate_that_binary_cannot_hold_drops_what_it_says() -> None:
    assert Schedule(2, 0.29, 0.29).keep_counts(100)[0] == 71


@given(
    layers=st.integers(1, 48),
    entering=st.integers(1, 3000),
    share=st.floats(0, 1),
    p_init=st.floats(0, 0.1),
    shape=st.sampled_from(["sigmoid", "exponential"]),
)
def test_fit_meets_every_reachable_sum(layers: int, entering: int, share: float, p_init: float, shape: str) -> None:
    least = layers if layers > 1 else entering
    total = least + round(share * (layers * entering - least))
    schedule, counts = fit(Schedule(layers, max(p_init, 0.001), shape=shape), entering, total)  # type: ignore[arg-type]
    assert abs(sum(counts) - total) <= 1
    assert 0 <= schedule.p_final <= MAX_RATE
    assert all(1 <= later <= earlier for earlier, later in zip((entering, *counts), counts, strict=False))
    assert layers == 1 or counts[-1] == counts[-2]


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=20), st.integers(0, 3000))
def test_blend_stays_between_and_meets_the_sum(pairs: list[tuple[int, int]], total: int) -> None:
    lower = tuple(sorted((low for low, _ in pairs), reverse=True))
    upper = tuple(low + more for low, more in zip(lower, sorted((more for _, more in pairs), reverse=True), strict=True))
    lower, upper = (*lower, lower[-1]), (*upper, upper[-1])
    counts = blend(upper, lower, total)
    assert all(low <= count <= high for low, count, high in zip(lower, counts, upper, strict=True))
    assert list(counts) == sorted(counts, reverse=True)
    assert abs(sum(counts) - min(max(total, sum(lower)), sum(upper))) <= 1


@pytest.mark.parametrize(
    ("preset", "layers", "entering_45", "after_45", "entering_444", "after_444"),
    [
        ("paper-30", 28, 0.3021, 0.2871, 0.2983, 0.2835),
        ("paper-20", 28, 0.2166, 0.2005, 0.2139, 0.1980),
        ("paper-30", 36, 0.3024, 0.2907, 0.2986, 0.2871),
        ("paper-20", 36, 0.2141, 0.2016, 0.2114, 0.1991),
    ],
)
def test_mean_retention_of_the_published_settings(
    preset: str, layers: int, entering_45: float, after_45: float, entering_444: float, after_444: float
) -> None:
    for start, entering, after in ((0.45, entering_45, after_45), (150.2 / 338, entering_444, after_444)):
        shares = [start]
        for rate in published(preset, layers).rates():
            shares.append(shares[-1] * (1 - rate))
        assert sum(shares[:-1]) / layers == pytest.approx(entering, abs=6e-5)
        assert sum(shares[1:]) / layers == pytest.approx(after, abs=6e-5)


def test_published_rates_layer_by_layer() -> None:
    expected = "0 0 0 0 0 0 .001 .001 .003 .005 .011 .021 .039 .066 .100 .134 .161 .179 .189 .195 .197 .199 .199 .200 .200 .200 .200 0"
    assert [round(rate, 3) for rate in published("paper-30", 28).rates()] == [float(rate) for rate in expected.split()]


def test_other_depths_compound_the_28_layer_constants() -> None:
    assert published("paper-30", 56).p_final == pytest.approx(1 - 0.8**0.5)
    assert published("paper-20", 8).p_final == MAX_RATE
    assert published("paper-30", 36).p_final == 0.15


def test_diversity_starts_where_published() -> None:
    assert [diversity_layer(layers) for layers in (28, 36, 8)] == [14, 19, 4]
