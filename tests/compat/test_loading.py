"""Checkpoints load the same under every transformers: as published, as saved by another version, quantised, saved again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from omnidrop_cli.config import ModelConfig
from omnidrop_cli.model.load import load
from omnidrop_cli.model.quantize import save_quantized
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.model.thinker import Thinker
from tests.model.checkpoints import quantized_modules, write_omni

IDS = torch.arange(60, 90)[None]


@pytest.fixture(scope="module")
def thinker() -> Thinker:
    return tiny_thinker(2)


def logits(thinker: Thinker) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = thinker.model(IDS).logits.float()
    return found


def published(name: str) -> str:
    """A tensor's name in Qwen's own files, whatever this transformers calls it: decoder and encoders one level higher than from 5.22."""
    name = re.sub(r"^model\.(visual|audio_tower)\.", r"\1.", name)
    return re.sub(r"^model\.language_model\.", "model.", name)


@pytest.mark.parametrize("quant", ["none", "nf4", "int8"])
def test_saved_files_have_the_published_names(quant: str, tmp_path: Path) -> None:
    """So a copy saved under one version loads under every other."""
    save_quantized(tiny_thinker(2, quant=quant), tmp_path / "copy")
    names = set(load_file(tmp_path / "copy" / "model.safetensors"))
    assert names == {published(name) for name in names}
    assert any(name.startswith("model.layers.") for name in names)
    assert any(name.startswith("visual.blocks.") for name in names)


def test_the_full_omni_layout_loads(thinker: Thinker, tmp_path: Path) -> None:
    assert torch.equal(logits(load(ModelConfig(str(write_omni(thinker, tmp_path)), device="cpu"))), logits(thinker))


@pytest.mark.parametrize("quant", ["nf4", "int8"])
def test_quantised_models_are_saved_and_load_again(quant: str, thinker: Thinker, tmp_path: Path) -> None:
    first = load(ModelConfig(str(write_omni(thinker, tmp_path / "omni")), device="cpu", quant=quant))
    adapter = first.adapter
    inside = {id(module) for layer in adapter.layers for module in layer.modules()}
    quantised = quantized_modules(first.model)
    assert len(quantised) == 7 * 2
    assert all(id(first.model.get_submodule(name)) in inside for name in quantised)
    save_quantized(first, tmp_path / "copy")
    again = load(ModelConfig(str(tmp_path / "copy"), device="cpu"))
    assert again.loaded.quant == quant
    assert quantized_modules(again.model) == quantised
    assert torch.equal(logits(again), logits(first))
