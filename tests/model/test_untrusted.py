"""A checkpoint is untrusted input: its code never runs, nothing is asked on standard input, and only its own safetensors files are read."""

from __future__ import annotations

import builtins
import json
import os
import pickle
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import omnidrop_cli.model.tokenizer as tokenizer_module
from omnidrop_cli.cli import build
from omnidrop_cli.config import ModelConfig
from omnidrop_cli.engine.session import Session
from omnidrop_cli.errors import ModelError, OmnidropError
from omnidrop_cli.model import checkpoint
from omnidrop_cli.model.checkpoint import INDEX, thinker_shards
from omnidrop_cli.model.load import load
from tests.clips import Clips
from tests.commands.running import environment, program

MARKER = "code_ran"

CODE = """
import pathlib
pathlib.Path({marker!r}).write_text("1")  # absolute: transformers runs a copy of this file elsewhere
from transformers import PreTrainedTokenizerFast, Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration
class Tokenizer(PreTrainedTokenizerFast): ...
class Config(Qwen2_5OmniThinkerConfig): ...
class Model(Qwen2_5OmniThinkerForConditionalGeneration): ...
"""

AUTO_MAP = {
    "AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"],
    "AutoConfig": "evil.Config",
    "AutoModel": "evil.Model",
    "AutoModelForCausalLM": "evil.Model",
}


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def into_tokenizer(directory: Path) -> None:
    edit(directory / "tokenizer_config.json", lambda c: c.update(auto_map=AUTO_MAP, tokenizer_class="Tokenizer"))


def into_tokenizer_list(directory: Path) -> None:
    edit(directory / "tokenizer_config.json", lambda c: c.update(auto_map=AUTO_MAP["AutoTokenizer"]))


def into_config(directory: Path) -> None:
    edit(directory / "config.json", lambda c: c.update(auto_map=AUTO_MAP))


def into_thinker(directory: Path) -> None:
    edit(directory / "config.json", lambda c: c["thinker_config"].update(auto_map=AUTO_MAP))


def into_text_config(directory: Path) -> None:
    edit(directory / "config.json", lambda c: c["thinker_config"]["text_config"].update(auto_map=AUTO_MAP))


PLACES = (into_tokenizer, into_tokenizer_list, into_config, into_thinker, into_text_config)


def with_code(checkpoint: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a checkpoint with code in it, on a terminal where the user says yes to everything."""
    shutil.copytree(checkpoint, directory)
    (directory / "evil.py").write_text(CODE.format(marker=str(directory / MARKER)))
    monkeypatch.setattr(builtins, "input", lambda *_: "y")
    return directory


@pytest.fixture
def hostile(omni_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return with_code(omni_checkpoint, tmp_path / "hostile", monkeypatch)


@pytest.fixture
def hostile_thinker(plain_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In this layout transformers has no tokenizer class of its own to prefer, asks, and runs the code."""
    return with_code(plain_checkpoint, tmp_path / "hostile", monkeypatch)


def ran(directory: Path) -> bool:
    return (directory / MARKER).exists()


@pytest.mark.parametrize("place", PLACES)
def test_code_of_a_checkpoint_never_runs(hostile: Path, place: Callable[[Path], None]) -> None:
    place(hostile)
    with pytest.raises(ModelError, match="auto_map") as caught:
        load(ModelConfig(str(hostile), device="cpu"))
    assert not ran(hostile)
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_transformers_is_never_trusted_with_it(hostile_thinker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second lock: were the key spelled in a way that is not found here, transformers still must not run it."""
    into_tokenizer(hostile_thinker)
    monkeypatch.setattr(tokenizer_module, "refuse_code", lambda *_: None)
    monkeypatch.setattr(tokenizer_module, "CLASSES", ("Tokenizer",))
    with pytest.raises(ModelError, match="custom code"):
        load(ModelConfig(str(hostile_thinker), device="cpu"))
    assert not ran(hostile_thinker)


COMMANDS = {
    "ask": ("ask", "{clip}", "What is said?", "--model", "{model}"),
    "batch": ("batch", "{clip}", "-q", "What is said?", "-o", "{out}/answers.jsonl", "--model", "{model}"),
    "evaluate": ("evaluate", "nano", "--limit", "1", "-o", "{out}/results.jsonl", "--model", "{model}"),
    "bench": ("bench", "--model", "{model}"),
    "quantize": ("models", "quantize", "{model}", "--quant", "nf4", "-o", "{out}/copy"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_runs_it(command: str, hostile_thinker: Path, clips: Clips, tmp_path: Path) -> None:
    into_tokenizer(hostile_thinker)
    words = [word.format(clip=clips["speech_video"], model=hostile_thinker, out=tmp_path) for word in COMMANDS[command]]
    result = CliRunner().invoke(build(), words, input="y\n" * 9)
    assert isinstance(result.exception, OmnidropError), result.output
    assert "auto_map" in result.exception.message
    assert not ran(hostile_thinker)


def test_the_api_does_not_run_it(hostile_thinker: Path) -> None:
    into_tokenizer(hostile_thinker)
    with pytest.raises(ModelError, match="auto_map"):
        Session.load(ModelConfig(str(hostile_thinker), device="cpu"))
    assert not ran(hostile_thinker)


@pytest.mark.slow
def test_a_process_leaves_standard_input_alone(hostile_thinker: Path, clips: Clips, tmp_path: Path) -> None:
    into_tokenizer(hostile_thinker)
    answers = tmp_path / "stdin"
    answers.write_text("y\n" * 100)
    command = program("ask", str(clips["speech_video"]), "What is said?", "--model", str(hostile_thinker))
    with answers.open("rb") as stdin:
        done = subprocess.run(command, stdin=stdin, capture_output=True, text=True, env=environment(), check=False, timeout=240)
        assert os.lseek(stdin.fileno(), 0, os.SEEK_CUR) == 0  # the child shares the position
    assert (done.returncode, done.stdout) == (1, "")
    assert "auto_map" in done.stderr
    assert "Traceback" not in done.stderr
    assert not ran(hostile_thinker)


@pytest.mark.parametrize("name", ["BloomTokenizer", "../evil.Tokenizer", 7, ["Qwen2Tokenizer"]])
def test_other_tokenizer_classes_are_refused(name: object, hostile: Path) -> None:
    edit(hostile / "tokenizer_config.json", lambda c: c.update(tokenizer_class=name))
    with pytest.raises(ModelError, match="tokenizer"):
        load(ModelConfig(str(hostile), device="cpu"))


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "model-00001-of-00004.safetensors"])
def test_pickles_are_never_read(name: str, hostile: Path) -> None:
    if name.startswith("pytorch") or name == "model.safetensors":
        for file in hostile.glob("model*"):
            file.unlink()
    (hostile / name).write_bytes(pickle.dumps(Bomb(hostile / MARKER)))
    torch.save(Bomb(hostile / MARKER), hostile / "model.bin")
    with pytest.raises(ModelError, match=r"safetensors"):
        load(ModelConfig(str(hostile), device="cpu"))
    assert not ran(hostile)


NAMES = [
    "../x.safetensors",
    "/etc/x.safetensors",
    "a/b.safetensors",
    "a\\b.safetensors",
    "C:x.safetensors",
    "..",
    ".hidden.safetensors",
    "pytorch_model.bin",
    "x.safetensors\n",
    "",
    None,
    3,
    ["x.safetensors"],
]


@pytest.mark.parametrize("name", NAMES)
def test_an_index_names_files_of_its_directory_only(name: object) -> None:
    with pytest.raises(ModelError, match="weight map"):
        thinker_shards({"weight_map": {"thinker.lm_head.weight": "model.safetensors", "thinker.model.norm.weight": name}}, "a model")


def test_no_file_outside_the_directory_is_opened(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    real = checkpoint.open_shard

    def recording(path: Path) -> Any:
        opened.append(path)
        return real(path)

    monkeypatch.setattr(checkpoint, "open_shard", recording)
    edit(hostile / INDEX, lambda c: c["weight_map"].update({"thinker.x": "../omni/model.safetensors"}))
    with pytest.raises(ModelError):
        load(ModelConfig(str(hostile), device="cpu"))
    assert not opened


def test_stored_quantisations_of_other_libraries_are_refused(hostile: Path) -> None:
    for stored in ({"quant_method": "gptq", "bits": 4}, {"quant_method": "quark", "load_in_4bit": True}, {"load_in_4bit": True}, {"x": 1}):
        edit(hostile / "config.json", lambda c, stored=stored: c.update(quantization_config=stored))  # type: ignore[misc]
        with pytest.raises(ModelError, match="does not read"):
            load(ModelConfig(str(hostile), device="cpu"))
    edit(hostile / "config.json", lambda c: c.update(quantization_config=[1]))
    with pytest.raises(ModelError, match="quantization_config"):
        load(ModelConfig(str(hostile), device="cpu"))
