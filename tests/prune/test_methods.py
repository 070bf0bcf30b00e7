"""What holds for every registered method, whatever the clip: the matrix."""

from __future__ import annotations

import pytest
import torch

from omnidrop_cli.prune.contract import Plan, PromptFacts
from omnidrop_cli.prune.methods import create, find, names
from omnidrop_cli.records import MethodChoice
from tests.prune.fakes import SHAPES, run

KEEPS = [0.01, 0.05, 0.2, 0.3, 0.45, 0.7, 0.95]
BUDGETED = [name for name in names() if "keep" in find(name).__dataclass_fields__]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("shape", SHAPES)
def test_defaults_run_on_every_clip(name: str, shape: str) -> None:
    tokens = SHAPES[shape]
    for layers in (1, 2, 6, 28):
        done = run(create(MethodChoice(name)), tokens, layers)
        media = (tokens.modality != 0).nonzero()[0]
        assert set(done.entering.tolist()) <= set(media.tolist())
        assert len(done.entering) >= min(1, len(media))
        if "may_end_empty" not in (done.plan.notes or {}):
            assert all(len(kept) >= min(1, len(media)) for kept in done.leaving)


@pytest.mark.parametrize("name", BUDGETED)
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "text_only"])
def test_every_keep_is_met(name: str, shape: str) -> None:
    tokens = SHAPES[shape]
    total = tokens.counts().media
    for layers in (2, 8, 28):
        for keep in KEEPS:
            done = run(create(MethodChoice(name, keep=keep)), tokens, layers)
            reached = done.mean_after(total)
            assert abs(reached - max(keep, 1 / total)) <= 1 / total + 1e-9, (layers, keep, reached)


@pytest.mark.parametrize("name", BUDGETED)
@pytest.mark.parametrize("shape", SHAPES)
def test_keep_1_is_no_stage_at_all(name: str, shape: str) -> None:
    plan = create(MethodChoice(name, keep=1.0)).plan(PromptFacts(SHAPES[shape], 28))
    assert plan == Plan(notes=plan.notes)


@pytest.mark.parametrize("name", names())
def test_presets_run_on_both_depths(name: str) -> None:
    for preset in find(name).presets:
        for layers in (8, 28, 36):
            done = run(create(MethodChoice(name, preset=preset)), SHAPES["long"], layers)
            assert len(done.entering) >= 1


@pytest.mark.parametrize("name", names())
def test_two_runs_agree(name: str) -> None:
    one, two = (run(create(MethodChoice(name)), SHAPES["both"], 8) for _ in range(2))
    assert torch.equal(one.entering, two.entering)
    assert all(torch.equal(a, b) for a, b in zip(one.leaving, two.leaving, strict=True))


def test_a_seed_is_another_draw() -> None:
    for name in ("random", "random-input"):
        one, two = (run(create(MethodChoice(name, seed=seed)), SHAPES["long"], 8) for seed in (0, 1))
        assert len(one.entering) == len(two.entering)
        assert not torch.equal(one.entering, two.entering)


def test_notes_tell_the_mean_that_was_run() -> None:
    for name in ("omnidrop", "random"):
        done = run(create(MethodChoice(name, keep=0.3)), SHAPES["long"], 28)
        assert done.plan.notes is not None
        assert done.plan.notes["retention_after"] == pytest.approx(done.mean_after(SHAPES["long"].counts().media), abs=1e-4)
