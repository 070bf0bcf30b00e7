"""Downloading from a hub on the loopback: only the thinker's files, then offline; and each way it fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from omnidrop_cli.config import ModelConfig
from omnidrop_cli.errors import ModelError
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.model.hub import pull
from omnidrop_cli.model.load import load
from omnidrop_cli.model.thinker import Thinker
from tests.model.checkpoints import INDEX
from tests.model.hub_server import COMMIT, Hub, point_to, serving, use_cache


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and a library that may use the network. The library read both from the environment at import."""
    use_cache(monkeypatch, tmp_path / "hub")
    return tmp_path / "hub"


@pytest.fixture
def hub(omni_checkpoint: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(omni_checkpoint) as running:
        point_to(monkeypatch, running.url)
        yield running


def test_only_the_thinker_is_downloaded(hub: Hub, thinker: Thinker, prompt_ids: torch.Tensor) -> None:
    loaded = load(ModelConfig("owner/model", device="cpu"))
    weights = {name for name in hub.fetched if name.endswith(".safetensors")}
    index = json.loads((hub.files / INDEX).read_text())["weight_map"]
    assert weights == {name for key, name in index.items() if key.startswith("thinker.")}
    assert index["talker.codec_head.weight"] not in weights
    assert loaded.loaded.revision == COMMIT
    assert loaded.loaded.source == "owner/model"
    with torch.inference_mode():
        assert torch.equal(loaded.model(prompt_ids).logits, thinker.model(prompt_ids).logits)


def test_the_second_time_nothing_is_downloaded_even_offline(hub: Hub) -> None:
    first = pull("owner/model", None, False, SILENT)
    hub.fetched.clear()
    assert pull("owner/model", None, False, SILENT) == first
    assert pull("owner/model", None, True, SILENT) == first
    assert hub.fetched == []
    assert load(ModelConfig("owner/model", device="cpu", offline=True)).loaded.revision == COMMIT


def test_an_incomplete_cache_is_completed_and_does_not_do_offline(hub: Hub) -> None:
    directory, _ = pull("owner/model", None, False, SILENT)
    (missing,) = sorted(directory.glob("*.safetensors"))[:1]
    missing.resolve().unlink()
    missing.unlink()
    with pytest.raises(ModelError, match="not completely"):
        pull("owner/model", None, True, SILENT)
    hub.fetched.clear()
    pull("owner/model", None, False, SILENT)
    assert hub.fetched == [missing.name]


def test_progress_counts_bytes(hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    class Watching(ProgressCallback):
        def __init__(self) -> None:
            self.seen: list[tuple[float, float | None]] = []

        def advance(self, done: float, total: float | None) -> None:
            self.seen.append((done, total))

    progress = Watching()
    directory, _ = pull("owner/model", None, False, progress)
    size = sum(file.stat().st_size for file in directory.glob("*.safetensors"))
    assert progress.seen[-1] == (size, size)
    assert all(total is None or done <= total for done, total in progress.seen)
    assert capfd.readouterr() == ("", "")


def test_without_a_network_the_cache_is_enough(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pull("owner/model", None, False, SILENT)
    point_to(monkeypatch, "http://127.0.0.1:9")
    assert pull("owner/model", None, False, SILENT) == first


@pytest.mark.parametrize(
    ("name", "revision", "offline", "words"),
    [
        ("owner/gated", None, False, "gated"),
        ("owner/unknown", None, False, "no repository"),
        ("owner/model", "v9", False, "no revision v9"),
        ("owner/model", None, True, "not in the cache"),
        ("owner/mo--del", None, False, "no repository name"),
    ],
)
def test_failures(name: str, revision: str | None, offline: bool, words: str, hub: Hub) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        load(ModelConfig(name, device="cpu", revision=revision, offline=offline))
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_a_repository_without_weights(hub: Hub, tmp_path: Path) -> None:
    hub.files = tmp_path
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_5_omni_thinker"}))
    with pytest.raises(ModelError, match="safetensors"):
        load(ModelConfig("owner/model", device="cpu"))


def test_a_hub_that_does_not_answer(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_to(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="cannot be reached") as caught:
        load(ModelConfig("owner/model", device="cpu"))
    assert "connection" in (caught.value.hint or "")


def test_a_full_disk(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import file_download

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file_download, "_download_to_tmp_and_move", full)
    with pytest.raises(ModelError, match="No space left") as caught:
        load(ModelConfig("owner/model", device="cpu"))
    assert "HF_HOME" in (caught.value.hint or "")
