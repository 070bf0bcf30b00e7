"""Loading: layouts, defaults, and what is said when it fails."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from omnidrop_cli.config import ModelConfig
from omnidrop_cli.errors import ModelError, UsageError
from omnidrop_cli.events import ProgressCallback
from omnidrop_cli.model import checkpoint
from omnidrop_cli.model import load as load_module
from omnidrop_cli.model.checkpoint import open_checkpoint, thinker_slices
from omnidrop_cli.model.load import load
from omnidrop_cli.model.random_weights import tiny_sizes, tiny_thinker
from omnidrop_cli.model.thinker import Thinker
from tests.model.checkpoints import INDEX, write_plain


def logits(thinker: Thinker, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return thinker.model(ids).logits


@pytest.mark.parametrize("layout", ["plain_checkpoint", "omni_checkpoint"])
def test_weights_come_back_bit_for_bit(layout: str, thinker: Thinker, prompt_ids: torch.Tensor, request: pytest.FixtureRequest) -> None:
    directory = request.getfixturevalue(layout)
    loaded = load(ModelConfig(str(directory), device="cpu"))
    expected = thinker.model.state_dict()
    found = loaded.model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert torch.equal(logits(loaded, prompt_ids), logits(thinker, prompt_ids))


@pytest.mark.skipif(sys.platform != "linux", reason="lists the mapped files")
def test_on_windows_shards_are_read_and_not_mapped(
    omni_checkpoint: Path, thinker: Thinker, prompt_ids: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mapped() -> set[str]:
        lines = Path("/proc/self/maps").read_text().splitlines()
        return {line.rpartition("/")[2] for line in lines if str(omni_checkpoint) in line}

    opened = open_checkpoint(omni_checkpoint)
    held = thinker_slices(opened)
    assert mapped() == {shard.name for shard in opened.shards}
    del held
    monkeypatch.setattr(checkpoint, "sys", SimpleNamespace(platform="win32"))
    held = thinker_slices(opened)
    assert held
    assert not mapped()
    assert torch.equal(logits(load(ModelConfig(str(omni_checkpoint), device="cpu")), prompt_ids), logits(thinker, prompt_ids))
    assert not mapped()


def test_talker_is_not_read(omni_checkpoint: Path) -> None:
    index = json.loads((omni_checkpoint / INDEX).read_text())["weight_map"]
    talker_only = {index["talker.codec_head.weight"]}
    opened = open_checkpoint(omni_checkpoint)
    assert {shard.name for shard in opened.shards} == set(index.values()) - talker_only
    assert all(key.startswith("thinker.") for key in thinker_slices(opened))  # one shard holds both


def test_everything_a_prompt_needs_is_there(omni_checkpoint: Path, thinker: Thinker) -> None:
    loaded = load(ModelConfig(str(omni_checkpoint), device="cpu"))
    assert loaded.sizes == thinker.sizes
    assert loaded.spec == thinker.spec
    assert [loaded.tokenizer.decode([number]) for number in loaded.eos_ids] == ["<|im_end|>", "<|endoftext|>"]
    assert loaded.tokenizer.decode([loaded.pad_id]) == "<|endoftext|>"
    assert (loaded.loaded.quant, loaded.loaded.device, loaded.loaded.dtype) == ("none", "cpu", "float32")
    assert loaded.loaded.num_layers == len(loaded.adapter.layers) == 4
    assert any("float32" in reason for reason in loaded.loaded.reasons)
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_position_ids_know_where_pictures_start(plain_checkpoint: Path, tmp_path: Path, thinker: Thinker) -> None:
    directory = shutil.copytree(plain_checkpoint, tmp_path / "model")
    config = json.loads((directory / "config.json").read_text())
    del config["vision_start_token_id"]
    (directory / "config.json").write_text(json.dumps(config))
    assert load(ModelConfig(str(directory), device="cpu")).model.config.vision_start_token_id == thinker.spec.vision_bos


def test_dtype_is_taken(plain_checkpoint: Path) -> None:
    loaded = load(ModelConfig(str(plain_checkpoint), device="cpu", dtype="bfloat16"))
    assert loaded.dtype == torch.bfloat16
    assert loaded.loaded.dtype == "bfloat16"


def test_tied_embeddings_stay_one_tensor(tmp_path: Path) -> None:
    loaded = load(ModelConfig(str(write_plain(tiny_thinker(tied=True), tmp_path)), device="cpu"))
    assert loaded.sizes.tied
    assert loaded.adapter.lm_head.weight is loaded.adapter.embedding_weight


def test_models_that_are_asked_for_at_once_load_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers replaces functions of the process while it loads, and of two loads the later would put back the other's."""
    choice = ModelConfig(str(write_plain(tiny_thinker(tied=True), tmp_path)), device="cpu")
    inside: list[int] = []
    busy: list[int] = []
    real = load_module.check_parameter_count

    def slow(*arguments: Any) -> None:
        busy.append(1)
        inside.append(len(busy))
        time.sleep(0.05)
        real(*arguments)
        busy.pop()

    monkeypatch.setattr(load_module, "check_parameter_count", slow)
    before = torch.linspace
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(load, [choice] * 8))
    assert inside == [1] * 8
    assert all(thinker.adapter.lm_head.weight is thinker.adapter.embedding_weight for thinker in loaded)
    assert torch.linspace is before


def test_loading_is_silent_and_leaves_logging_alone(plain_checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity(), logging.getLogger("huggingface_hub").level
    load(ModelConfig(str(plain_checkpoint), device="cpu"))
    assert (transformers_logging.get_verbosity(), logging.getLogger("huggingface_hub").level) == before
    assert transformers_logging.is_progress_bar_enabled()
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_nothing_is_printed_in_a_fresh_process(omni_checkpoint: Path) -> None:
    """Libraries warn once per process, so the others cannot tell."""
    code = (
        "import sys, torch; from omnidrop_cli.model.load import load; from omnidrop_cli.config import ModelConfig\n"
        "for quant in ('nf4', 'int8'):\n"
        "    thinker = load(ModelConfig(sys.argv[1], device='cpu', quant=quant))\n"
        "    with torch.inference_mode(): thinker.model(torch.arange(9)[None])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(omni_checkpoint)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_random_weights_load_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from omnidrop_cli.model import names

    monkeypatch.setitem(names._RANDOM, "7b", tiny_sizes())
    loaded = load(ModelConfig("random:7b@2layers", device="cpu"))
    assert len(loaded.adapter.layers) == 2
    assert loaded.loaded.name == "random:7b@2layers"
    assert "noise" in (loaded.loaded.notice or "")


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (ModelConfig("{plain}", device="gpu"), "gpu"),
        (ModelConfig("{plain}", device="meta"), "meta"),
        (ModelConfig("{plain}", device="cpu", revision="main"), "revision"),
    ],
)
def test_values_that_mean_nothing(choice: ModelConfig, words: str, plain_checkpoint: Path) -> None:
    from dataclasses import replace

    with pytest.raises(UsageError, match=words) as caught:
        load(replace(choice, name=str(plain_checkpoint)))
    assert caught.value.hint


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("choice", [ModelConfig(device="cuda"), ModelConfig(device="cpu", attention="flash_attention_2")])
def test_no_gpu(choice: ModelConfig, plain_checkpoint: Path) -> None:
    from dataclasses import replace

    with pytest.raises(ModelError, match=r"CUDA|GPU") as caught:
        load(replace(choice, name=str(plain_checkpoint)))
    assert caught.value.hint


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_auto_with_a_gpu_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    from omnidrop_cli.model import names
    from omnidrop_cli.model.gpu_memory import GpuMemory

    monkeypatch.setattr(names, "gpu_memory", lambda number: GpuMemory(24_000_000_000, 24_000_000_000))
    with pytest.raises(ModelError, match="cannot use it"):
        load(ModelConfig("auto"))


def change_text_config(directory: Path, **values: object) -> None:
    config = json.loads((directory / "config.json").read_text())
    config["thinker_config"]["text_config"] |= values
    (directory / "config.json").write_text(json.dumps(config))


def broken(checkpoint: Path, directory: Path, what: str) -> str:
    """Copies `checkpoint` and breaks the copy; returns a word the message must hold."""
    shutil.copytree(checkpoint, directory)
    shard = sorted(directory.glob("*.safetensors"))[0]
    match what:
        case "no config":
            (directory / "config.json").unlink()
            return "config.json"
        case "config is no JSON":
            (directory / "config.json").write_text("{")
            return "config.json"
        case "another model":
            (directory / "config.json").write_text(json.dumps({"model_type": "llama"}))
            return "llama"
        case "no weights":
            for file in directory.glob("*.safetensors"):
                file.unlink()
            return "safetensors"
        case "index without a map":
            (directory / INDEX).write_text("{}")
            return "weight map"
        case "index leads out":
            (directory / INDEX).write_text(json.dumps({"weight_map": {"thinker.adapter.lm_head.weight": "../../etc/passwd"}}))
            return "weight map"
        case "cut shard":
            shard.write_bytes(shard.read_bytes()[:1000])
            return shard.name
        case "missing tensor":
            state = load_file(shard)
            del state[min(state, key=lambda name: state[name].numel())]
            save_file(state, shard)
            return "lacks"
        case "missing shards":
            index = json.loads((directory / INDEX).read_text())
            index["weight_map"] = {key: name for key, name in index["weight_map"].items() if name == shard.name}
            (directory / INDEX).write_text(json.dumps(index))
            return "describes"
        case "slightly other sizes":
            change_text_config(directory, intermediate_size=136)
            return "cannot be loaded"
        case "other sizes":
            change_text_config(directory, intermediate_size=1024)
            return "describes"
        case "fewer layers":
            change_text_config(directory, num_hidden_layers=2, layer_types=["full_attention"] * 2)
            return "describes"
        case "sizes that are none":
            change_text_config(directory, hidden_size="wide")
            return "makes no sense"
        case "parts of positions that are none":
            change_text_config(directory, rope_scaling={"mrope_section": [1, 1, 1]})
            return "makes no sense"
        case "depth that is none":
            change_text_config(directory, num_hidden_layers="deep")
            return "makes no sense"
        case "a setting transformers refuses":
            change_text_config(directory, rms_norm_eps="small")
            return "cannot be loaded"
        case "no tokenizer":
            for file in directory.glob("token*"):
                file.unlink()
            return "tokenizer"
        case _:
            raise ValueError(what)


@pytest.mark.parametrize(
    "what",
    [
        "no config",
        "config is no JSON",
        "another model",
        "no weights",
        "index without a map",
        "index leads out",
        "cut shard",
        "missing tensor",
        "missing shards",
        "slightly other sizes",
        "other sizes",
        "fewer layers",
        "sizes that are none",
        "depth that is none",
        "parts of positions that are none",
        "a setting transformers refuses",
        "no tokenizer",
    ],
)
def test_broken_directories(what: str, omni_checkpoint: Path, tmp_path: Path) -> None:
    word = broken(omni_checkpoint, tmp_path / "broken", what)
    with pytest.raises(ModelError, match=word) as caught:
        load(ModelConfig(str(tmp_path / "broken"), device="cpu"))
    assert caught.value.hint
    assert "\n" not in caught.value.message


class Heard(ProgressCallback):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_large_model_on_the_cpu_says_why(plain_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "LARGE", 1)
    heard = Heard()
    load(ModelConfig(str(plain_checkpoint), quant="none", dtype="float32"), heard)
    assert [message for message in heard.warnings if "runs on the CPU" in message and ("CUDA" in message or "GPU" in message)]
    heard = Heard()
    load(ModelConfig(str(plain_checkpoint), quant="none", dtype="float32", device="cpu"), heard)
    assert heard.warnings == [], "who asks for the CPU knows"


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), torch.float16), ((7, 0), torch.float16), ((8, 0), torch.bfloat16)])
def test_dtype_of_a_gpu_follows_its_capability(capability: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    chosen, reason = load_module._dtype("auto", torch.device("cuda"), tiny_sizes())
    assert chosen == dtype
    assert str(dtype).removeprefix("torch.") in (reason or "")
