"""Names of models, and that resolving them costs no import of torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from omnidrop_cli.config import ModelConfig
from omnidrop_cli.errors import ModelError, UsageError
from omnidrop_cli.model import names
from omnidrop_cli.model.gpu_memory import GpuMemory
from omnidrop_cli.model.names import QWEN_BOUNDS, resolve
from omnidrop_cli.model.sizes import QWEN_3B, QWEN_7B
from omnidrop_cli.outputs import FrameBounds


@pytest.fixture
def nano(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the built-in model's directory."""
    sections = {"text_config": {"num_hidden_layers": 12}, "vision_config": {}, "audio_config": {}}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_5_omni_thinker", **sections}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"min_pixels": 4704, "max_pixels": 7056}))
    monkeypatch.setattr(names, "NANO_DIRECTORY", tmp_path)
    return tmp_path


def test_published_checkpoints() -> None:
    seven, three = resolve(ModelConfig("7b")), resolve(ModelConfig("3b"))
    assert (seven.source, seven.kind, seven.sizes) == ("Qwen/Qwen2.5-Omni-7B", "hub", QWEN_7B)
    assert (three.source, three.sizes) == ("Qwen/Qwen2.5-Omni-3B", QWEN_3B)
    assert seven.frame_bounds == QWEN_BOUNDS == (100_352, 112_896)


def test_hub_repositories() -> None:
    assert resolve(ModelConfig("someone/finetune-7B")).source == "someone/finetune-7B"
    assert resolve(ModelConfig("someone/finetune-7B")).sizes is None
    assert resolve(ModelConfig("qwen/qwen2.5-omni-3b")).sizes == QWEN_3B


def test_a_directory_wins_over_a_repository(omni_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "name").symlink_to(omni_checkpoint)
    monkeypatch.chdir(tmp_path)
    found = resolve(ModelConfig("owner/name"))
    assert found.kind == "directory"
    assert found.sizes is not None
    assert found.sizes.decoder.num_layers == 4


def test_random_weights() -> None:
    full, short = resolve(ModelConfig("random:7b")), resolve(ModelConfig("random:3b@4layers"))
    assert full.sizes == QWEN_7B
    assert short.sizes is not None
    assert short.sizes.decoder.num_layers == 4
    assert short.sizes.decoder.hidden == QWEN_3B.decoder.hidden
    assert resolve(ModelConfig("random:7b@1layer")).kind == "random"


def test_nano_says_its_own_frame_bounds(nano: Path) -> None:
    found = resolve(ModelConfig("nano"))
    assert (found.kind, found.source) == ("builtin", str(nano))
    assert found.frame_bounds == FrameBounds(4704, 7056)
    assert found.notice is None


def test_bounds_of_single_images_are_not_taken_for_frames(nano: Path) -> None:
    """Qwen's own file says 3136 to 12845056 pixels: that is for images."""
    (nano / "preprocessor_config.json").write_text(json.dumps({"min_pixels": 3136, "max_pixels": 12_845_056}))
    assert resolve(ModelConfig(str(nano))).frame_bounds == QWEN_BOUNDS


@pytest.mark.parametrize(
    ("gigabytes", "device", "name"),
    [
        (0, "auto", "nano"),
        (6, "auto", "nano"),
        (8.59, "auto", "3b"),
        (12.88, "auto", "7b"),
        (24, "cuda", "7b"),
        (24, "cpu", "nano"),
        (2, "auto", "nano"),
    ],
)
def test_auto(gigabytes: float, device: str, name: str, nano: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = GpuMemory(free=int(gigabytes * 1e9), total=24_000_000_000) if gigabytes else None
    monkeypatch.setattr(names, "gpu_memory", lambda number: memory)
    found = resolve(ModelConfig("auto", device=device))
    assert found.name == name
    assert found.reasons[0].startswith(name)
    if name in ("3b", "7b"):
        assert re.search(r"GB are free, enough for \d+ min of video at keep 0\.3", found.reasons[0])
    if name == "nano":
        assert found.notice is not None
        assert "demo world" in found.notice


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("9b", UsageError, r"unknown model '9b'"),
        ("nan", UsageError, r"unknown model 'nan'"),
        ("random:9b", UsageError, r"random:9b"),
        ("random:7b@0layers", UsageError, r"random:7b@0layers"),
        ("random:7b@99999999999999999999layers", UsageError, r"random:7b@9"),
        ("./missing", ModelError, r"no directory ./missing"),
        ("/missing/deep/path", ModelError, r"no directory"),
        ("", UsageError, r"unknown model"),
    ],
)
def test_names_that_mean_nothing(name: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        resolve(ModelConfig(name))
    assert getattr(caught.value, "hint", None)


@pytest.mark.parametrize(("name", "hint"), [("nan", "did you mean nano?"), ("7B", "did you mean 7b?"), ("gpt", "one of auto, nano")])
def test_near_names_are_hinted_at(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(ModelConfig(name))
    assert hint in (caught.value.hint or "")


def test_a_file_is_no_model(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    with pytest.raises(ModelError, match="is a file"):
        resolve(ModelConfig(str(file)))


def test_an_installation_without_nano(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "NANO_DIRECTORY", tmp_path)
    with pytest.raises(ModelError, match="no built-in model"):
        resolve(ModelConfig("nano"))


def test_names_resolve_without_torch() -> None:
    code = (
        "import sys; from omnidrop_cli.model.names import gpu_memory, resolve; from omnidrop_cli.config import ModelConfig\n"
        "import omnidrop_cli.model.memory_estimate; resolve(ModelConfig('7b')); resolve(ModelConfig('random:3b')); gpu_memory()\n"
        "print([name for name in ('torch', 'transformers', 'huggingface_hub', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
