"""What holds for every registered method, whatever the clip: the matrix."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from omnidrop_cli.config import PruningConfig
from omnidrop_cli.errors import UsageError
from omnidrop_cli.prune.base import Plan, PromptInfo
from omnidrop_cli.prune.composition import HasInLLMStage, HasInputStage
from omnidrop_cli.prune.methods import find, get_method, names
from tests.prune.fakes import SHAPES, made, run

KEEPS = [0.01, 0.05, 0.2, 0.3, 0.45, 0.7, 0.95]
REMOVES_ALL = {"seats", "omniblend"}  # SEATS' third stage leaves text alone, by design
SINGLE = [name for name in names() if "keep" in find(name).__dataclass_fields__]  # type: ignore[attr-defined]
FIRST = [name for name in SINGLE if isinstance(made(name), HasInputStage)]
SECOND = [name for name in SINGLE if isinstance(made(name), HasInLLMStage)]
COMPOSED = [f"{first}+{second}" for first in FIRST for second in SECOND]
MEDIA = [shape for shape in SHAPES if shape != "text_only"]


def meets_every_keep(name: str, shape: str, depths: tuple[int, ...], keeps: list[float]) -> None:
    tokens = SHAPES[shape]
    total = tokens.counts().media
    for layers in depths:
        for keep in keeps:
            done = run(made(name, keep=keep), tokens, layers)
            reached = done.mean_after(total)
            assert abs(reached - max(keep, 1 / total)) <= 1 / total + 1e-9, (layers, keep, reached)
            assert len(done.entering) >= 1


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("shape", SHAPES)
def test_defaults_run_on_every_clip(name: str, shape: str) -> None:
    tokens = SHAPES[shape]
    media = (tokens.modality != 0).nonzero()[0]
    for layers in (1, 2, 6, 28):
        done = run(made(name), tokens, layers)
        assert set(done.entering.tolist()) <= set(media.tolist())
        assert len(done.entering) >= min(1, len(media))
        if name not in REMOVES_ALL:
            assert all(len(kept) >= min(1, len(media)) for kept in done.leaving)


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("shape", MEDIA)
def test_every_keep_is_met(name: str, shape: str) -> None:
    meets_every_keep(name, shape, (2, 8, 28), KEEPS)


@pytest.mark.parametrize("name", COMPOSED)
@pytest.mark.parametrize("shape", ["both", "sound", "picture", "one_chunk"])
def test_every_composition_meets_keep(name: str, shape: str) -> None:
    meets_every_keep(name, shape, (8, 28), [0.05, 0.3, 0.8])


@pytest.mark.parametrize("name", [*SINGLE, *COMPOSED])
def test_keep_1_is_no_stage_at_all(name: str) -> None:
    for tokens in SHAPES.values():
        plan = made(name, keep=1.0).plan(PromptInfo(tokens, 28))
        assert plan == Plan(metadata=plan.metadata)


@pytest.mark.parametrize("name", names())
def test_presets_run_on_both_depths(name: str) -> None:
    for preset in find(name).presets:
        for layers in (8, 28, 36):
            done = run(made(name, preset=preset), SHAPES["long"], layers)
            assert len(done.entering) >= 1


@pytest.mark.parametrize("name", [*names(), "seats+omnidrop"])
def test_two_runs_agree(name: str) -> None:
    one, two = (run(made(name), SHAPES["both"], 8) for _ in range(2))
    assert torch.equal(one.entering, two.entering)
    assert all(torch.equal(a, b) for a, b in zip(one.leaving, two.leaving, strict=True))


def test_a_seed_is_another_draw() -> None:
    for name in ("random", "random-input"):
        one, two = (run(made(name, seed=seed), SHAPES["long"], 8) for seed in (0, 1))
        assert len(one.entering) == len(two.entering)
        assert not torch.equal(one.entering, two.entering)


def test_notes_tell_the_mean_that_was_run() -> None:
    for name in ("omnidrop", "random", "seats"):
        done = run(made(name, keep=0.3), SHAPES["long"], 28)
        assert done.plan.metadata is not None
        assert done.plan.metadata["retention_after"] == pytest.approx(done.mean_after(SHAPES["long"].counts().media), abs=1e-4)


@pytest.mark.parametrize("second", SECOND)
def test_a_composition_takes_each_half_from_its_part(second: str) -> None:
    composed = get_method(PruningConfig(f"divprune+{second}", keep=0.3))
    done = run(composed, SHAPES["long"], 28)
    assert composed.name == f"divprune+{second}"
    before = run(get_method(PruningConfig("divprune", keep=len(done.entering) / SHAPES["long"].counts().media)), SHAPES["long"], 28)
    assert torch.equal(done.entering, before.entering)
    assert len(done.leaving[-1]) < len(done.entering)


def test_options_of_omnidrop_reach_its_half_of_a_composition() -> None:
    gentle, harsh = (
        run(get_method(PruningConfig("divprune+omnidrop", keep=0.3, options={"p_init": value})), SHAPES["long"], 28)
        for value in ("0", "0.05")
    )
    assert len(gentle.leaving[0]) == len(gentle.entering)
    assert len(harsh.leaving[0]) == len(harsh.entering) - int(0.05 * len(harsh.entering))


def test_no_time_decay_is_divprune_as_published() -> None:
    zero, plain = (get_method(PruningConfig("divprune", keep=0.3, options=options)) for options in ({"fade": "0"}, {}))
    assert zero == plain
    assert torch.equal(run(zero, SHAPES["long"], 4).entering, run(plain, SHAPES["long"], 4).entering)


def test_omniblend_is_its_two_parts() -> None:
    spelling = PruningConfig("divprune+seats", keep=0.2, options={"fade": "4"})
    named, spelt = (run(get_method(choice), SHAPES["long"], 28) for choice in (PruningConfig("omniblend", keep=0.2), spelling))
    assert torch.equal(named.entering, spelt.entering)
    assert all(torch.equal(a, b) for a, b in zip(named.leaving, spelt.leaving, strict=True))


def test_omnidrop_with_itself_is_nearly_itself() -> None:
    alone, twice = (
        run(get_method(PruningConfig(name, keep=0.3, options={"input_stage": "paper"})), SHAPES["long"], 28)
        for name in ("omnidrop", "omnidrop+omnidrop")
    )
    assert [len(kept) for kept in alone.leaving] == [len(kept) for kept in twice.leaving]
    assert len(set(alone.entering.tolist()) ^ set(twice.entering.tolist())) <= 4  # the split of one total may round another way


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (lambda: PruningConfig("fastv+omnidrop"), "chooses nothing before"),
        (lambda: PruningConfig("omnidrop+omnizip"), "drops nothing inside"),
        (lambda: PruningConfig("none+omnidrop"), "chooses nothing before"),
        (lambda: PruningConfig("seats+omnidrp"), "unknown method 'omnidrp'"),
        (lambda: PruningConfig("a+b+c"), "is not two methods"),
        (lambda: PruningConfig("seats+omnidrop", preset="paper-30"), "no presets"),
        (lambda: PruningConfig("seats+omnidrop", options={"nope": "1"}), "no option 'nope'"),
        (lambda: PruningConfig("seats+omnidrop", options={"dash.merge": "1"}), "no option 'dash.merge'"),
        (lambda: PruningConfig("seats+omnidrop", keep=3.0), "keep is 3"),
        (lambda: PruningConfig("seats+fastv", options={"ratio": "0.5"}), "cannot set ratio"),
        (lambda: PruningConfig("dycoke+omnidrop", options={"dycoke.audio_keep": "1", "dycoke.video_keep": "0.4"}), "cannot set audio_keep"),
    ],
)
def test_compositions_that_cannot_be(choice: Callable[[], PruningConfig], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        get_method(choice())
    assert message in caught.value.message


def test_options_of_a_composition_reach_their_part() -> None:
    options = {"omnidrop.rows": "last", "lambda_div": "0.7", "seats.scale": "2"}
    described = get_method(PruningConfig("seats+omnidrop", options=options)).describe()
    assert described["omnidrop"]["queries"] == "last"  # type: ignore[index]
    assert described["omnidrop"]["lambda_div"] == 0.7  # type: ignore[index]
    assert described["seats"]["scale"] == 2.0  # type: ignore[index]
