"""A weight, a scale or an activation that is no number ends in one line that names the cause."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from omnidrop_cli.config import GenerationConfig, Request
from omnidrop_cli.engine.finite import check_finite
from omnidrop_cli.engine.session import Session
from omnidrop_cli.errors import ModelError
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.model.thinker import Thinker


def first_logits(thinker: Thinker) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = thinker.model(torch.arange(9)[None]).logits[0, -1].float()
    return logits


def check(thinker: Thinker, logits: torch.Tensor | None = None, dtype: torch.dtype | None = None) -> None:
    check_finite(first_logits(thinker) if logits is None else logits, thinker.model, dtype or thinker.dtype)


@pytest.mark.parametrize("quant", ["none", "nf4", "int8"])
def test_a_sound_model_passes(quant: str) -> None:
    check(tiny_thinker(2, quant=quant))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_the_weight_is_named(value: float) -> None:
    thinker = tiny_thinker(2)
    named = dict(thinker.model.named_parameters())
    name = next(name for name in reversed(named) if named[name].shape == (128, 64))  # the last layer's MLP
    named[name].data[3, 5] = value
    with pytest.raises(ModelError, match=name) as caught:
        check(thinker)
    assert "damaged" in (caught.value.hint or "")


@pytest.mark.parametrize("quant", ["nf4", "int8"])
def test_the_scale_of_a_quantised_weight_is_named(quant: str) -> None:
    thinker = tiny_thinker(2, quant=quant)
    attribute = "quant_state" if quant == "nf4" else "SCB"
    name, weight = next((name, weight) for name, weight in thinker.model.named_parameters() if hasattr(weight, attribute))
    scales = weight.quant_state.state2.absmax if quant == "nf4" else weight.SCB
    scales[0] = float("nan")
    with pytest.raises(ModelError, match=name):
        check(thinker, torch.tensor([1.0, float("nan")]))


def test_float16_is_named_where_the_weights_are_sound() -> None:
    thinker = tiny_thinker(1)
    with pytest.raises(ModelError, match="float16") as caught:
        check(thinker, torch.tensor([0.0, float("inf")]), torch.float16)
    assert "`dtype=" in (caught.value.hint or "")
    with pytest.raises(ModelError, match="NaN or infinity"):
        check(thinker, torch.tensor([0.0, float("nan")]), torch.bfloat16)


def test_ask_ends_in_one_line(clips: Mapping[str, Path]) -> None:
    """It used to answer "!!!!!!!!" and succeed."""
    thinker = tiny_thinker(2)
    thinker.adapter.embedding_weight.data[thinker.spec.im_start, 0] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        Session(thinker).run(Request(str(clips["speech_video"]), "what is said?", generation=GenerationConfig(temperature=0.7)))
