"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.report import numbers


@pytest.mark.parametrize(
    ("say", "value", "text"),
    [
        (numbers.seconds, 0.0, "0 s"),
        (numbers.seconds, 0.0042, "4.2 ms"),
        (numbers.seconds, 0.42, "420 ms"),
        (numbers.seconds, 0.9996, "1.00 s"),
        (numbers.seconds, 9.996, "10.0 s"),
        (numbers.seconds, 754.2, "12:34 min"),
        (numbers.seconds, 119.6, "2:00 min"),
        (numbers.megabytes, 0.123, "0.12 MB"),
        (numbers.megabytes, 21.5, "21.5 MB"),
        (numbers.megabytes, 999.6, "1.00 GB"),
        (numbers.megabytes, 15200.0, "15.2 GB"),
        (numbers.share, 0.2874, "28.7 %"),
        (numbers.share, 1.0, "100 %"),
        (numbers.share, 0.0004, "0.04 %"),
        (numbers.share, 0.0, "0 %"),
        (numbers.flops, 1.234e12, "1.23 TFLOPs"),
        (numbers.flops, 12.0, "12 FLOPs"),
        (numbers.flops_short, 1.234e12, "1.23 T"),
        (numbers.percent, 0.2874, "29 %"),
        (numbers.percent, 0.004, "0.4 %"),
        (numbers.percent, 0.0, "0 %"),
        (numbers.clock, 65.4, "1:05"),
        (numbers.clock, 59.6, "1:00"),
        (numbers.clock, 3725.0, "1:02:05"),
    ],
)
def test_examples(say: Callable[[float], str], value: float, text: str) -> None:
    assert say(value) == text


def test_spans_have_the_unit_of_their_median() -> None:
    assert numbers.seconds_span(0.402, 0.498, 0.412) == "402-498"
    assert numbers.seconds_span(0.98, 1.2, 0.99) == "980-1200"
    assert numbers.seconds_span(0.0041, 0.006, 0.005) == "4.1-6.0"
    assert numbers.seconds_span(0.98, 1.2, 1.1) == "0.98-1.20"
    assert numbers.seconds_span(99.0, 130.0, 120.0) == "1:40-2:10"


def test_fine_clocks_have_tenths() -> None:
    assert (numbers.clock(65.25, fine=True), numbers.clock(59.96, fine=True)) == ("1:05.2", "1:00.0")


def test_ratios() -> None:
    assert (numbers.times(3.98, 1), numbers.times(124, 10), numbers.times(620, 2)) == ("3.98x", "12.4x", "310x")
    assert numbers.times(1, 0) == numbers.times(0, 1) == "-"


@given(st.floats(0, 1e7), st.floats(0, 1e7))
def test_more_never_reads_as_less(one: float, other: float) -> None:
    """Within one unit the figures keep their order."""
    for say in (numbers.megabytes, numbers.flops):
        small, large = say(min(one, other)).split(), say(max(one, other)).split()
        assert small[1] != large[1] or float(small[0]) <= float(large[0])
