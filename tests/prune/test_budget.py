"""Every mean retention is met, for any depth and any mix of tokens."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from omnidrop_cli.prune import budget
from omnidrop_cli.prune.groups import InputBudget, MediaLayout, Segments
from omnidrop_cli.prune.schedule import Schedule
from tests.prune.fakes import SHAPES, token_map

LAYOUTS = st.builds(MediaLayout, st.integers(0, 300), st.integers(0, 30), st.integers(1, 40)).filter(lambda layout: layout.total > 0)
PAPER = MediaLayout(audio=64 * 50, frames=128, frame_size=144)


def monotone(entering: int, counts: tuple[int, ...]) -> bool:
    return all(1 <= later <= earlier for earlier, later in zip((entering, *counts), counts, strict=False))


@settings(max_examples=150)
@example(layout=MediaLayout(16, 28, 1), layers=1, keep=0.3359375, shape="sigmoid")
@given(layout=LAYOUTS, layers=st.integers(1, 48), keep=st.floats(0.001, 1), shape=st.sampled_from(["sigmoid", "exponential"]))
def test_every_keep_is_met_to_one_token(layout: MediaLayout, layers: int, keep: float, shape: str) -> None:
    settled = budget.solve(layout, Schedule(layers, shape=shape), keep)  # type: ignore[arg-type]
    reached = sum(settled.keep_counts) / (layers * layout.total)
    if keep >= 1 / layout.total:
        assert abs(reached - keep) <= 1 / layout.total + 1e-9
    assert monotone(settled.input.total, settled.keep_counts)
    assert settled.input.audio <= layout.audio
    assert len(settled.input.video) == layout.frames
    assert all(0 <= count <= layout.frame_size for count in settled.input.video)


@pytest.mark.parametrize("layers", [4, 8, 28, 36, 64])
@pytest.mark.parametrize("keep", [0.02, 0.05, 0.1, 0.2, 0.25, 0.3, 0.45, 0.6, 0.7, 0.95])
def test_the_rule_for_the_input_share(layers: int, keep: float) -> None:
    settled = budget.solve(PAPER, Schedule(layers), keep)
    assert abs(sum(settled.keep_counts) / (layers * PAPER.total) - keep) <= 1 / PAPER.total
    share = settled.input.total / PAPER.total
    assert share <= max(1.5 * keep, 150.2 / 338) + 1e-3
    assert settled.schedule.p_final <= 0.5
    if settled.schedule.p_final < 0.49:  # nothing had to shrink
        assert share == pytest.approx(min(1, max(150.2 / 338, 1.5 * keep)), abs=2e-3)


def test_the_papers_settings_are_near_what_is_solved() -> None:
    at_20 = budget.solve(PAPER, Schedule(28), 0.2)
    assert (at_20.audio_ratio, at_20.video_ratio, at_20.schedule.p_init) == (0.7, 0.4, pytest.approx(0.02))
    assert at_20.schedule.p_final == pytest.approx(0.5, abs=0.03)
    at_30 = budget.solve(PAPER, Schedule(28), 0.2835, p_init=0.0)
    assert at_30.schedule.p_final == pytest.approx(0.2, abs=2e-3)


def test_held_options_are_held() -> None:
    settled = budget.solve(PAPER, Schedule(28), 0.3, p_final=0.3)
    assert settled.schedule.p_final == 0.3
    assert sum(settled.keep_counts) / (28 * PAPER.total) == pytest.approx(0.3, abs=1 / PAPER.total)
    settled = budget.solve(PAPER, Schedule(28), 0.3, audio_keep=0.9, video_keep=0.5)
    assert (settled.audio_ratio, settled.video_ratio) == (0.9, 0.5)
    assert sum(settled.keep_counts) / (28 * PAPER.total) == pytest.approx(0.3, abs=1 / PAPER.total)


@pytest.mark.parametrize(
    "held", [{"audio_keep": 1.0, "video_keep": 1.0}, {"audio_keep": 0.1, "video_keep": 0.01}, {"p_final": 0.9, "audio_keep": 1.0}]
)
def test_held_options_that_cannot_meet_keep_are_refused(held: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"mean of"):
        budget.solve(PAPER, Schedule(28), 0.2 if held.get("audio_keep") == 1.0 else 0.9, **held)


@given(layout=LAYOUTS, keep=st.floats(0.001, 1), layers=st.integers(1, 40))
def test_the_input_alone_meets_keep_to_half_a_token(layout: MediaLayout, keep: float, layers: int) -> None:
    settled = budget.input_only(layout, layers, keep)
    assert settled.input.total == max(1, round(keep * layout.total))
    assert settled.keep_counts == (settled.input.total,) * layers


def test_merging_budgets_are_the_papers() -> None:
    assert InputBudget.of_ratios(MediaLayout(50, 8, 100), 0.7, 0.4) == InputBudget(35, (100, 20, 20, 20) * 2)
    assert InputBudget.of_ratios(PAPER, 0.7, 0.4).total / PAPER.total == pytest.approx(0.444, abs=1e-3)


@pytest.mark.parametrize(
    ("frames", "rate", "expected"),
    [
        (5, 0.4, (10, 2, 2, 2, 10)),
        (1, 0.4, (10,)),
        (6, 0.25, (10, 0, 0, 0, 10, 0)),
        (5, 0.1, (4, 0, 0, 0, 4)),
        (2, 1.0, (10, 10)),
        (1, 0.001, (1,)),
    ],
)
def test_merging_budgets_of_odd_lengths(frames: int, rate: float, expected: tuple[int, ...]) -> None:
    assert InputBudget.of_ratios(MediaLayout(0, frames, 10), 1.0, rate).video == expected


@given(layout=LAYOUTS, total=st.integers(1, 2000), audio=st.integers(0, 300))
def test_an_exact_total_is_exact(layout: MediaLayout, total: int, audio: int) -> None:
    total = min(total, layout.total)
    exact = InputBudget.of_total(layout, total, audio)
    assert exact.total == total
    assert exact.audio <= layout.audio


def test_layout_of_a_prompt() -> None:
    assert MediaLayout.of(SHAPES["both"]) == MediaLayout(36, 7, 12)
    assert MediaLayout.of(SHAPES["both"], halves=True) == MediaLayout(36, 14, 6)
    assert MediaLayout.of(SHAPES["sound"]) == MediaLayout(27, 0, 0)
    assert MediaLayout.of(token_map((), (2,), cells=(3, 3)), halves=True) == MediaLayout(0, 2, 9)  # nine cells have no halves


@given(keys=st.lists(st.integers(0, 9), min_size=1, max_size=60), share=st.floats(0, 1))
def test_quotas_are_even(keys: list[int], share: float) -> None:
    segments = Segments.of(keys)
    total = round(share * len(keys))
    keep_counts = segments.keep_counts(total)
    assert sum(keep_counts) == total
    assert all(0 <= keep_count <= size for keep_count, size in zip(keep_counts, segments.sizes, strict=True))
    assert all(abs(keep_count - size * total / len(keys)) <= 1 for keep_count, size in zip(keep_counts, segments.sizes, strict=True))
