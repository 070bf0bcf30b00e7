"""The rivals' own rules against slow code from their formulas, and their arithmetic against published ratios."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omnidrop_cli.config import PruningConfig
from omnidrop_cli.prune.base import PromptInfo
from omnidrop_cli.prune.composition import InputMethod, split_along
from omnidrop_cli.prune.groups import MediaLayout
from omnidrop_cli.prune.methods import get_method
from omnidrop_cli.prune.methods.dash import Dash
from omnidrop_cli.prune.methods.divprune import MostDiverse
from omnidrop_cli.prune.methods.dycoke import DyCoke
from omnidrop_cli.prune.methods.fastv import FastV, OneCut
from omnidrop_cli.prune.methods.omnizip import OmniZip, guided_rates, interleaved_scores
from omnidrop_cli.prune.methods.seats import Seats, WindowBudgets, drop_counts, window_shares
from tests.prune.fakes import SHAPES, FakeView, input_view, run, token_map
from tests.prune.published import interleaved, omnizip_rates, spatial_scores

PAPER = MediaLayout(audio=64 * 50, frames=128, frame_size=144)
LONG = SHAPES["long"]


# ---------------------------------------------------------------- published ratios


@pytest.mark.parametrize(
    ("name", "preset", "overall"),
    [
        ("omnizip", "paper-45", 0.452),
        ("omnizip", "paper-35", 0.352),
        ("omnisift", "paper-35", 0.370),
        ("omnisift", "paper-25", 0.270),
        ("dash", "paper", 0.293),
        ("dycoke", "omnisift-25", 0.279),
    ],
)
def test_presets_keep_the_published_share(name: str, preset: str, overall: float) -> None:
    method = get_method(PruningConfig(name, preset=preset))
    assert isinstance(method, InputMethod)
    assert sum(method.counts(PAPER)) / PAPER.total == pytest.approx(overall, abs=1e-3)


def test_keep_runs_through_the_published_pairs() -> None:
    for method in (OmniZip(), Dash()):
        for video, audio in method.ratios:
            total = round(audio * PAPER.audio + video * PAPER.video)
            got = split_along(method.ratios, PAPER, total)
            assert got[0] == pytest.approx(audio * PAPER.audio, abs=1)
            assert sum(got) == total


@given(st.integers(0, 60), st.integers(0, 12), st.integers(1, 20), st.data())
def test_a_split_is_a_split(audio: int, frames: int, size: int, data: st.DataObject) -> None:
    layout = MediaLayout(audio, frames, size)
    if not layout.total:
        return
    total = data.draw(st.integers(1, layout.total))
    a, v = split_along(((0.3, 0.65), (0.4, 0.75)), layout, total)
    assert a + v == total
    assert 0 <= a <= layout.audio
    assert 0 <= v <= layout.video
    if total > 1 and audio and frames:
        assert a >= 1
        assert v >= 1


# ---------------------------------------------------------------- fastv


@pytest.mark.parametrize(("keep", "layers"), [(0.35, 28), (0.25, 28), (0.3, 36), (0.02, 28)])
def test_fastv_meets_the_mean_of_the_published_conversion(keep: float, layers: int) -> None:
    done = run(FastV(keep=keep), LONG, layers)
    total = LONG.counts().media
    assert done.mean_after(total) == pytest.approx(keep, abs=1 / total)
    counts = [len(kept) for kept in done.leaving]
    assert len(set(counts)) <= 2
    if keep > 0.1:
        assert counts[0] == total  # K = 2: the first layer's output is whole
        assert counts[1] == round((keep * layers * total - total) / (layers - 1))


def test_fastv_of_a_model_with_few_layers_cuts_before_its_last() -> None:
    """`layer` beyond the model cuts after the layer before the last: the last one still gains."""
    counts = [len(kept) for kept in run(FastV(layer=9, ratio=0.5), LONG, 4).leaving]
    total = LONG.counts().media
    assert counts == [total, total, round(total / 2), round(total / 2)]


def test_fastv_keeps_the_best_attended() -> None:
    view = FakeView(1, 28, torch.ones(6), torch.zeros(6), torch.arange(6), 6, 4)
    expected = sorted(view.attention("last").topk(2).indices.tolist())
    assert sorted(OneCut(1, 2, "last")(view, 2).tolist()) == expected


# ---------------------------------------------------------------- dycoke


def test_dycoke_merges_sound_second_by_second() -> None:
    tokens = token_map((50, 37), (2, 2))
    view = input_view(tokens)
    plan = DyCoke(audio_keep=0.5, video_keep=0.5).plan(PromptInfo(tokens, 28))
    assert plan.input_stage is not None
    chosen = plan.input_stage(view).audio
    assert len(chosen) == 44
    seconds = [view.audio[start : start + 25] for start in range(0, 87, 25)]
    kept = [chosen[(chosen >= 25 * s) & (chosen < 25 * (s + 1))] - 25 * s for s in range(4)]
    assert len(kept[0]) == 25  # the anchor
    for second, reference in ((1, 0), (2, 0), (3, 2)):
        size = len(seconds[second])
        similar = torch.cosine_similarity(seconds[second], seconds[reference][:size], dim=-1)
        assert set(kept[second].tolist()) == set(similar.topk(len(kept[second]), largest=False).indices.tolist())


def test_dycoke_can_leave_sound_whole() -> None:
    done = run(DyCoke(keep=0.7, audio="keep"), LONG, 4)
    assert (LONG.modality[done.entering] == 1).sum() == LONG.counts().audio


def test_dycoke_prunes_audio_under_keep_unless_it_is_kept() -> None:
    audio = (LONG.modality == 1).sum()
    merged, kept = (run(DyCoke(keep=0.3, audio=choice), LONG, 4) for choice in ("merge", "keep"))  # type: ignore[arg-type]
    assert (LONG.modality[merged.entering] == 1).sum() == round(0.3 * audio)
    assert (LONG.modality[kept.entering] == 1).sum() == min(audio, round(0.3 * LONG.counts().media) - 1)


@pytest.mark.parametrize(("grids", "expected"), [(1, 10), (2, 13), (3, 16), (4, 19), (5, 29), (9, 48)])
def test_dycoke_keeps_the_first_grid_of_short_groups(grids: int, expected: int) -> None:
    """k = 0.7: ten tokens of every first grid, three of each other."""
    tokens = token_map((50,) * 5, (2,) * (grids // 2) + (1,) * (grids % 2), cells=(2, 5))
    kept = run(get_method(PruningConfig("dycoke", preset="paper")), tokens, 4).entering
    of_video = tokens.grid[kept][tokens.modality[kept] == 2].tolist()
    assert len(of_video) == expected
    assert [of_video.count(grid) for grid in range(grids)] == [3 if grid % 4 else 10 for grid in range(grids)]


# ---------------------------------------------------------------- omnizip


@pytest.mark.parametrize(("preset", "audio", "video"), [("paper-45", 0.75, 0.55), ("paper-35", 0.65, 0.51), ("v2-35", 0.65, 0.51)])
@pytest.mark.parametrize("windows", [1, 2])
def test_omnizip_leaves_short_clips_unnormalised(preset: str, audio: float, video: float, windows: int) -> None:
    """Up to two windows the rate is .75 - .4 S, S the retained audio: 55 and 51 % of the video stay, not 40 and 30."""
    tokens = token_map((100,) * windows, (2,) * windows, cells=(10, 10))
    done = run(get_method(PruningConfig("omnizip", preset=preset)), tokens, 4)
    kept = tokens.modality[done.entering]
    assert (kept == 1).sum() == round(audio * 100 * windows)
    assert (kept == 2).sum() == pytest.approx(video * 200 * windows, abs=1)
    by_keep = run(get_method(PruningConfig("omnizip", keep=0.3)), tokens, 4)
    assert len(by_keep.entering) == round(0.3 * tokens.counts().media)


def test_omnizip_frames_are_what_is_said() -> None:
    """A frame is a grid or its half: spatial selection in frames 0, 2 of a window, temporal in 1, 3."""
    tokens = token_map((50,) * 4, (2,) * 4, cells=(4, 5))
    view = input_view(tokens)
    cut = view.video.view(8, 20, -1)
    for frames, size in (("grids", 20), ("halves", 10)):
        plan = OmniZip(audio_keep=1.0, video_keep=0.4, spatial="v1", frames=frames).plan(PromptInfo(tokens, 28))  # type: ignore[arg-type]
        assert plan.input_stage is not None
        chosen = set(plan.input_stage(view).video.tolist())
        of_frames = cut.reshape(-1, size, cut.shape[-1])
        keep = [sum(i // size == frame for i in chosen) for frame in range(160 // size)]
        in_pairs = [list(range(p * 40 // size, (p + 1) * 40 // size)) for p in range(4)]
        expected = set().union(*(interleaved(of_frames, some, [keep[f] for f in some], "v1") for some in in_pairs))
        assert chosen == expected


@given(groups=st.integers(1, 9), mean=st.floats(0.45, 0.7), data=st.data())
def test_guided_rates_are_normalised_as_published(groups: int, mean: float, data: st.DataObject) -> None:
    retained = [data.draw(st.integers(0, 8)) / 8 for _ in range(groups)]  # exact in binary, so that ties are ties
    sizes = [data.draw(st.integers(1, 300)) for _ in range(groups)]
    guided = [data.draw(st.booleans()) for _ in range(groups)]
    got = guided_rates(torch.tensor(retained), sizes, guided, mean)
    expected = omnizip_rates(retained, sizes, guided, mean)
    torch.testing.assert_close(got, torch.tensor(expected), atol=2e-3, rtol=1e-3)


def test_the_bounds_move_with_the_mean() -> None:
    for mean in (0.05, 0.3, 0.9, 0.98):
        rates = guided_rates(torch.tensor([0.1, 0.5, 0.9]), [10, 10, 10], [True] * 3, mean)
        assert 0 <= rates.min() <= mean <= rates.max() <= 1


@pytest.mark.parametrize("spatial", ["paper", "v2", "v1"])
def test_frames_alternate_between_space_and_time(spatial: str) -> None:
    video = torch.randn(5, 6, 8, generator=torch.Generator().manual_seed(0))
    got = interleaved_scores(video, [0, 0, 1, 1, 1], spatial)  # type: ignore[arg-type]
    for frame in (0, 2, 4):
        torch.testing.assert_close(got[frame], torch.tensor(spatial_scores(video[frame], spatial)), atol=1e-4, rtol=1e-3)
    for frame in (1, 3):
        torch.testing.assert_close(got[frame], -torch.cosine_similarity(video[frame], video[frame - 1], dim=-1))


def test_chunks_with_much_kept_sound_keep_more_picture() -> None:
    tokens = token_map((50,) * 6, (2,) * 6, cells=(4, 4))
    view = input_view(tokens)
    attention = torch.zeros(300)
    attention[50:100] = 1.0
    attention[200:225] = 0.5
    plan = OmniZip(audio_keep=0.3, video_keep=0.4).plan(PromptInfo(tokens, 28))
    assert plan.input_stage is not None
    chosen = plan.input_stage(type(view)(tokens, view.audio, view.video, view.query, attention))
    per_chunk = [(chosen.video // 32 == chunk).sum().item() for chunk in range(6)]
    assert per_chunk[1] == max(per_chunk)
    assert per_chunk[1] > per_chunk[4] >= max(per_chunk[i] for i in (0, 2, 3, 5))
    assert sum(per_chunk) == round(0.4 * 192)


# ---------------------------------------------------------------- seats


@pytest.mark.parametrize("target", [0.35, 0.25, 0.15])
def test_seats_drops_are_the_published_ones_in_its_own_convention(target: float) -> None:
    """Levels 1.4, 1.302, 1.035, 0.309 times the target, then none; step ratios .9298, .7949, .2986 (SEATS, arXiv 2605.20035)."""
    total = 100_000
    counts = drop_counts(28, round(1.4 * target * total), round(28 * target * total), late=True, entering=True)
    levels = [counts[layer] / (target * total) for layer in (0, 15, 17, 19, 22)]
    assert levels == pytest.approx([1.4, 1.3018, 1.0348, 0.309, 0], abs=2e-3)
    assert [levels[i + 1] / levels[i] for i in range(3)] == pytest.approx([0.9298, 0.7949, 0.2986], abs=1e-3)
    changes = [layer for layer in range(1, 28) if counts[layer] != counts[layer - 1]]
    assert changes == [15, 17, 19, 22]


@pytest.mark.parametrize(
    ("preset", "mean", "entering"), [("paper-35", 0.352, 0.492), ("paper-25", 0.252, 0.352), ("paper-10", 0.103, 0.144)]
)
def test_seats_presets_have_the_published_means(preset: str, mean: float, entering: float) -> None:
    tokens = token_map((50,) * 10, (2,) * 10, cells=(12, 12))
    notes = get_method(PruningConfig("seats", preset=preset)).plan(PromptInfo(tokens, 28)).metadata
    assert notes is not None
    assert notes["retention_entering"] == pytest.approx(mean, abs=2e-3)
    assert (int(notes["audio_entering"]) + int(notes["video_entering"])) / tokens.counts().media == pytest.approx(entering, abs=2e-3)


def test_seats_removes_everything_late_and_can_be_asked_not_to() -> None:
    assert len(run(Seats(keep=0.3), LONG, 28).leaving[-1]) == 0
    assert len(run(Seats(keep=0.3, late=False), LONG, 28).leaving[-1]) > 0
    assert len(run(Seats(keep=0.9), LONG, 28).leaving[-1]) > 0  # removal would make the mean impossible


def test_seats_chooses_by_weighted_diversity_in_every_chunk() -> None:
    plan = Seats(keep=0.3).plan(PromptInfo(LONG, 28))
    assert isinstance(plan.input_stage, MostDiverse)
    chosen = plan.input_stage(input_view(LONG))
    per_chunk = [(chosen.video // 32 == chunk).sum().item() for chunk in range(12)]
    assert max(per_chunk) - min(per_chunk) <= 1


def test_window_shares_follow_the_two_steps() -> None:
    torch.manual_seed(0)
    chunks, segment, scores = 3, [], []
    for chunk in range(chunks):
        for modality in (0, 1):
            segment += [chunk * 2 + modality] * (4 + chunk)
    scores = torch.rand(len(segment)) * 0.2
    got = window_shares(scores, torch.tensor(segment), chunks, audio=5.0, video=11.0, temperature=0.1)
    mean = [[scores[[i for i, s in enumerate(segment) if s == 2 * c + m]].mean().item() for c in range(chunks)] for m in (0, 1)]
    weight = [[math.exp(value / 0.1) / sum(math.exp(v / 0.1) for v in row) for value in row] for row in mean]
    for c in range(chunks):
        budget = (weight[0][c] + weight[1][c]) / 2 * 16
        demand = [weight[0][c] * 5, weight[1][c] * 11]
        for m in (0, 1):
            assert got[2 * c + m].item() == pytest.approx(budget * demand[m] / sum(demand), rel=1e-4)


def test_window_budgets_keep_the_best_of_every_window() -> None:
    modality = torch.tensor([1, 1, 1, 2, 2, 2] * 4)
    chunk = torch.arange(4).repeat_interleave(6)
    stage = WindowBudgets((8,) * 28, (12, 12), tuple(chunk.tolist()), 4, 0.1)
    view = FakeView(15, 28, modality, chunk, torch.arange(24), 24, 4)
    chosen = stage(view, 8)
    scores = view.attention("last")
    for c in range(4):
        for m in (1, 2):
            members = ((chunk == c) & (modality == m)).nonzero().flatten()
            kept = [i for i in members.tolist() if i in chosen.tolist()]
            assert len(kept) == 1  # nearly equal scores: an even split
            assert kept == [members[scores[members].argmax()].item()]


@pytest.mark.parametrize("only", [1, 2])
def test_window_budgets_of_one_modality_are_those_of_the_clip(only: int) -> None:
    """Windows share what two modalities have; with one alone, the best tokens stay wherever they are."""
    modality, window = torch.full((24,), only), torch.arange(4).repeat_interleave(6)
    entering = (24, 0) if only == 1 else (0, 24)
    view = FakeView(15, 28, modality, window, torch.arange(24), 24, 4)
    chosen = WindowBudgets((8,) * 28, entering, tuple(window.tolist()), 4, 1e6)(view, 8)
    best = view.attention("last").topk(8).indices
    assert sorted(chosen.tolist()) == sorted(best.tolist())
    assert len(set((best // 6).bincount(minlength=4).tolist())) > 1  # equal windows would be another choice
