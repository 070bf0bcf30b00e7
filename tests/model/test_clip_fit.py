"""Which clips fit: against what was measured, and the arithmetic around it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.config import MediaConfig
from omnidrop_cli.model.clip_fit import LONGEST_S, Fit, ModelMemory, fit
from omnidrop_cli.model.names import AUTO_BYTES, QWEN_BOUNDS
from omnidrop_cli.model.sizes import QWEN_3B, QWEN_7B

SEVEN, THREE = (ModelMemory(sizes, "nf4", QWEN_BOUNDS.fill(MediaConfig())) for sizes in (QWEN_7B, QWEN_3B))


@pytest.mark.parametrize(
    ("model", "seconds", "gigabytes", "expected"),
    [(THREE, 60, 8, "yes"), (SEVEN, 600, 24, "yes"), (SEVEN, 600, 12, "encoders wait")],
)
def test_what_an_h100_showed_under_a_limit(model: ModelMemory, seconds: float, gigabytes: float, expected: Fit) -> None:
    """docs/results/gpu.md, whole answers: 30 % kept."""
    assert fit(model.of_clip(seconds, 0.3), gigabytes * 1e9) == expected


def test_tokens_of_a_clip_are_those_of_ask() -> None:
    """A measured prompt of ten minutes had 70,503 tokens, 207 of them text."""
    assert SEVEN.of_clip(600, 1.0) == SEVEN.of_tokens(70_503 - 207, 1.0)


def test_options_lengthen_what_fits() -> None:
    fewer, silent = (
        ModelMemory(QWEN_7B, "nf4", QWEN_BOUNDS.fill(options)) for options in (MediaConfig(max_frames=64), MediaConfig(use_audio=False))
    )
    plain = SEVEN.longest_s(1.0, 16e9)
    assert 0 < plain < fewer.longest_s(1.0, 16e9) < LONGEST_S
    assert silent.of_clip(600, 1.0) == silent.of_clip(6000, 1.0)


@pytest.mark.parametrize(("name", "model"), [("7b", SEVEN), ("3b", THREE)])
def test_a_minute_fits_where_auto_takes_a_model(name: str, model: ModelMemory) -> None:
    assert model.longest_s(0.3, AUTO_BYTES[name]) >= 60
    assert model.longest_s(0.3, 4e9) == 0
    assert model.longest_s(0.1, 80e9) == LONGEST_S


@given(
    model=st.sampled_from([SEVEN, THREE]),
    keep=st.sampled_from([1.0, 0.5, 0.3, 0.1]),
    gigabytes=st.floats(4, 30),
)
def test_the_longest_clip_fits_and_a_longer_one_does_not(model: ModelMemory, keep: float, gigabytes: float) -> None:
    longest = model.longest_s(keep, gigabytes * 1e9)
    assert longest == 0 or fit(model.of_clip(longest, keep), gigabytes * 1e9) != "no"
    assert longest == LONGEST_S or fit(model.of_clip(longest + 1, keep), gigabytes * 1e9) == "no"


@given(tokens=st.integers(1, 200_000), keep=st.floats(0.05, 1.0))
def test_waiting_encoders_never_need_more(tokens: int, keep: float) -> None:
    needed = SEVEN.of_tokens(tokens, keep)
    assert needed.waiting_peak_mb <= needed.peak_mb + 1e-6
