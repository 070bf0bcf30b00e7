"""A whole checkpoint in the layout of OmniSIFT-7B, from its files to an answer, as a user asks for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

from omnidrop_cli.cli import build
from omnidrop_cli.config import GenerationConfig, ModelConfig, PruningConfig, Request
from omnidrop_cli.engine.session import Session
from omnidrop_cli.errors import ModelError, UsageError
from omnidrop_cli.model.checkpoint import open_checkpoint, thinker_slices
from omnidrop_cli.model.load import load
from omnidrop_cli.model.quantize import save_quantized
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.outputs import Report
from omnidrop_cli.prune.audio_selector import AudioSelector, has_selector, load_selector, save_selector
from omnidrop_cli.report.json import from_dict
from tests.clips import tone_video
from tests.model.checkpoints import INDEX, write_omni

DIM = 64


def selector(seed: int) -> AudioSelector:
    torch.manual_seed(seed)
    return AudioSelector(DIM)


def write(folder: Path, seed: int | None) -> Path:
    """The thinker with the selector of `seed`, or with none."""
    folder.mkdir(parents=True)
    state = {} if seed is None else {f"thinker.compressor.{name}": tensor for name, tensor in selector(seed).state_dict().items()}
    return write_omni(tiny_thinker(), folder, more=state)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tone_video(tmp_path_factory.mktemp("clip"), 4.0)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("hub") / "OmniSIFT", 1)


def ask(directory: Path, clip: Path, **options: str) -> Report:
    job = Request(
        str(clip), "what?", method=PruningConfig("omnisift", keep=0.3, options=options), generation=GenerationConfig(max_new_tokens=1)
    )
    return Session.load(ModelConfig(str(directory), device="cpu")).run(job)


def kept(report: Report) -> list[int]:
    indices: Iterable[Any] = report.trace.kept[0]
    return [int(index) for index in indices]


def test_the_layout_is_the_published_one(published: Path) -> None:
    names = json.loads((published / INDEX).read_text())["weight_map"]
    assert {name.split(".")[1] for name in names if name.startswith("thinker.")} == {
        "model",
        "visual",
        "audio_tower",
        "lm_head",
        "compressor",
    }
    shards = {file for name, file in names.items() if name.startswith("thinker.compressor.")}
    assert len(set(names.values())) > 2
    assert shards < set(names.values())
    assert not any("compressor" in name for name in thinker_slices(open_checkpoint(published)))


def test_ask_takes_thinker_and_selector_from_one_directory(published: Path, clip: Path) -> None:
    arguments = ["ask", str(clip), "what?", "--model", str(published), "--device", "cpu", "--method", "omnisift", "--keep", "0.3"]
    done = CliRunner().invoke(build(), [*arguments, "--max-new-tokens", "1", "--json", "-q"], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    assert from_dict(json.loads(done.stdout)).method_options["selector"] == "the model's own"


def test_other_weights_select_other_tokens(published: Path, clip: Path, tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", None)
    with pytest.raises(UsageError, match="no trained audio selector"):
        ask(plain, clip)
    first, second, none = ask(published, clip), ask(write(tmp_path / "other", 2), clip), ask(plain, clip, selector="untrained")
    assert kept(first) == kept(ask(published, clip, selector=str(published)))
    assert len({tuple(kept(report)) for report in (first, second, none)}) == 3
    assert len({len(kept(report)) for report in (first, second, none)}) == 1
    assert none.method_options["selector"] == "untrained"
    assert kept(ask(published, clip, selector="untrained")) == kept(none)


def test_a_quantised_copy_keeps_its_selector(published: Path, tmp_path: Path) -> None:
    save_quantized(load(ModelConfig(str(published), device="cpu", quant="nf4")), tmp_path / "copy")
    assert has_selector(tmp_path / "copy")
    for name, tensor in load_selector(str(tmp_path / "copy")).state_dict().items():
        assert torch.equal(tensor, selector(1).state_dict()[name])
    save_quantized(load(ModelConfig(str(write(tmp_path / "plain", None)), device="cpu", quant="nf4")), tmp_path / "bare")
    assert not has_selector(tmp_path / "bare")


def test_a_saved_selector_has_the_published_names(tmp_path: Path) -> None:
    narrow = AudioSelector(DIM, width=128)
    save_selector(narrow, tmp_path / "selector.safetensors")
    with safe_open(tmp_path / "selector.safetensors", framework="pt") as file:
        assert {name.rpartition("compressor.")[0] for name in file.keys()} == {"thinker."}  # noqa: SIM118  # no mapping
    loaded = load_selector(str(tmp_path))
    assert loaded.cross_attn.num_heads == 2
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, narrow.state_dict()[name].bfloat16().float())


def test_a_width_that_heads_do_not_divide_is_said(tmp_path: Path) -> None:
    odd = {name: tensor[:96] for name, tensor in selector(0).state_dict().items()}
    from safetensors.torch import save_file

    save_file({f"thinker.compressor.{name}": tensor.contiguous() for name, tensor in odd.items()}, tmp_path / "odd.safetensors")
    with pytest.raises(ModelError, match="other parts"):
        load_selector(str(tmp_path / "odd.safetensors"))


@pytest.mark.parametrize(
    "name", ["../OmniSIFT/model-00001-of-00004.safetensors", "/etc/hostname.safetensors", "a/b.safetensors", "selector.pt", 3]
)
def test_an_index_that_names_other_files_than_its_own_is_refused(published: Path, tmp_path: Path, name: object) -> None:
    hostile = tmp_path / "hostile"
    shutil.copytree(published, hostile)
    index = json.loads((hostile / INDEX).read_text())
    index["weight_map"]["thinker.compressor.a_proj.weight"] = name
    (hostile / INDEX).write_text(json.dumps(index))
    for read in (lambda: load_selector(str(hostile)), lambda: has_selector(hostile)):
        with pytest.raises(ModelError, match="weight map"):
            read()


def test_an_index_that_is_nested_too_deeply_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text("[" * 100_000)
    with pytest.raises(ModelError, match="nested too deeply"):
        load_selector(str(tmp_path))
