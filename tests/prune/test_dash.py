"""DASH against its published rule written as loops (`published.py`), and the parts it is made of."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omnidrop_cli.config import PruningConfig
from omnidrop_cli.prune.base import InputView, PromptInfo, Selection
from omnidrop_cli.prune.groups import MediaLayout
from omnidrop_cli.prune.methods import get_method
from omnidrop_cli.prune.methods.dash import Dash, fused_scores
from omnidrop_cli.prune.segments import audio_segments, change_since, video_segments
from tests.prune import published
from tests.prune.fakes import SHAPES, input_view
from tests.prune.published import SECONDS_PER_GRID, jaccard, timed_map

GRIDS, CELLS, SIZE = 16, (4, 6), 24


def select(view: InputView, **options: object) -> Selection:
    plan = get_method(PruningConfig("dash", options={name: str(value) for name, value in options.items()})).plan(
        PromptInfo(view.tokens, 28)
    )
    assert plan.input_stage is not None
    return plan.input_stage(view)


def case(seconds_per_grid: float, kind: str, seed: int = 0) -> tuple[InputView, torch.Tensor, set[int]]:
    """A view, its video (grids, size, d), and the audio that the published rule keeps at rho_a = 0.45."""
    n = round(25 * seconds_per_grid * GRIDS)
    video, audio = (published.scenes if kind == "scenes" else published.noise)(GRIDS, SIZE, n, seed=seed)
    view = replace(input_view(timed_map(seconds_per_grid, GRIDS, n, CELLS)), video=video.flatten(0, 1), audio=audio)
    assert view.audio_attention is not None
    return view, video, published.dash_audio(audio, view.audio_attention, round(0.6 * n), round(0.05 * n))


@pytest.mark.parametrize("seconds_per_grid", SECONDS_PER_GRID)
@pytest.mark.parametrize("kind", ["scenes", "noise"])
@pytest.mark.parametrize("frames", ["halves", "grids"])
def test_kept_tokens_are_those_of_the_published_rule(seconds_per_grid: float, kind: str, frames: str) -> None:
    view, video, audio = case(seconds_per_grid, kind)
    expected = published.dash_video(video, view.audio, audio, 0.76, halves=frames == "halves")
    share = len(expected) / (GRIDS * SIZE)
    chosen = select(view, audio_keep=0.6, video_keep=share, frames=frames)
    assert set(chosen.audio.tolist()) == audio
    # Above about 1.2 s a grid segments are shorter than a grid, which the published code keeps whole; here the total is kept.
    short = frames == "halves" and seconds_per_grid > 1.2
    assert jaccard(expected, chosen.video.tolist()) > (0.55 if short else 0.93)


@given(st.lists(st.floats(-1, 1), max_size=120), st.integers(1, 40), st.floats(-1, 1))
def test_audio_segments_open_where_audio_changes_and_not_too_soon(cosine: list[float], shortest: int, threshold: float) -> None:
    exact = torch.tensor(cosine)
    cuts = [0]
    for place, value in enumerate(exact.tolist(), start=1):
        if value < torch.tensor(threshold).item() and place - cuts[-1] >= shortest:
            cuts.append(place)
    expected = [sum(cut <= token for cut in cuts) - 1 for token in range(len(cosine) + 1)]
    assert audio_segments(exact, torch.tensor(threshold).item(), shortest).tolist() == expected


@given(st.integers(1, 9), st.integers(1, 7), st.lists(st.integers(1, 30), min_size=1, max_size=6), st.booleans())
def test_video_segments_are_the_audio_segments_on_the_line(frames: int, size: int, lengths: list[int], whole: bool) -> None:
    n, video = sum(lengths), frames * size
    of_audio = torch.tensor([number for number, length in enumerate(lengths) for _ in range(length)])
    starts = [sum(lengths[:number]) for number in range(len(lengths))]
    at = [(2 * start * frames + n) // (2 * n) * size if whole else start * video // n for start in starts]
    expected = [max(number for number, start in enumerate(at) if start <= token) for token in range(video)]
    assert video_segments(of_audio, MediaLayout(n, frames, size), whole=whole).tolist() == expected


def test_preset_keeps_more_video_without_audio() -> None:
    silent = MediaLayout(audio=0, frames=16, frame_size=24)
    assert get_method(PruningConfig("dash", preset="paper")).counts(silent) == (0, round(0.39 * silent.video))  # type: ignore[attr-defined]
    assert Dash(keep=0.24).counts(silent) == (0, round(0.24 * silent.video))
    assert Dash(audio_keep=1.0, video_keep=0.9).counts(silent) == (0, round(0.9 * silent.video))
    view = input_view(timed_map(1.0, GRIDS, 0, CELLS))
    video = view.video.view(GRIDS, SIZE, -1)
    expected = published.dash_video(video, view.audio, set(), 0.76, halves=True)
    kept = set(select(view, audio_keep=0.6, video_keep=0.24, frames="halves").video.tolist())
    assert len(kept) == round(0.39 * GRIDS * SIZE)
    assert expected <= kept


def test_audio_that_stays_whole_needs_no_attention() -> None:
    view = replace(input_view(SHAPES["long"]), audio_attention=None)
    chosen = select(view, audio_keep=1.0, video_keep=0.3)
    assert chosen.audio.tolist() == list(range(len(view.audio)))
    assert chosen.audio_embeds is None
    with pytest.raises(ValueError, match="ranked by the attention"):
        select(view, audio_keep=0.5, video_keep=0.3)


def test_a_short_segment_keeps_its_share() -> None:
    """One-grid segments (`frames=grids`) are compressed like any other; the published "shorter than two frames" means half grids."""
    view, _, _ = case(2.19, "noise")
    chosen = select(view, audio_keep=0.6, video_keep=0.24, frames="grids").video
    per_grid = torch.bincount(chosen // SIZE, minlength=GRIDS) / SIZE
    assert per_grid.max() - per_grid.min() <= 0.15


@settings(max_examples=25)
@given(n=st.integers(2, 20), dim=st.sampled_from([4, 24]), seed=st.integers(0, 99), keep=st.integers(1, 20))
def test_fused_scores_rank_as_the_published_rule(n: int, dim: int, seed: int, keep: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    audio, attention = torch.randn(n, dim, generator=generator), torch.rand(n, generator=generator)
    fused = fused_scores(audio, torch.cosine_similarity(audio[:-1], audio[1:], dim=-1), attention)
    assert fused.max() <= 1
    keep = min(keep, n)
    best = set(fused.sort(descending=True).indices[:keep].tolist())
    assert best == published.dash_audio(audio, attention, keep, 0)


def test_change_is_measured_at_the_given_distance() -> None:
    video = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
    got = change_since(video, 6)
    assert got[:6].tolist() == [0.0] * 6
    expected = [-published.cosine(video[i], video[i - 6]) for i in range(6, 100)]
    assert got[6:].tolist() == pytest.approx(expected, abs=1e-5)
    assert change_since(video[:4], 6).tolist() == [0.0] * 4
