"""`omnidrop models` against a hub on the loopback and a folder of copies: list, pull, path, quantize, rm."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from omnidrop_cli import paths
from omnidrop_cli.config import ModelConfig
from omnidrop_cli.errors import ModelError, UsageError
from omnidrop_cli.model.names import resolve
from omnidrop_cli.model.random_weights import tiny_thinker
from tests.model.checkpoints import write_omni
from tests.model.hub_server import COMMIT, Hub, point_to, serving, use_cache
from tests.processes import a_process_that_uses

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def omni(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_omni(tiny_thinker(), tmp_path_factory.mktemp("omni"))


@pytest.fixture(autouse=True)
def hub(omni: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one repository, and an empty cache. The hub's library read its settings from the environment at import."""
    use_cache(monkeypatch, tmp_path / "hub")
    with serving(omni) as running:
        point_to(monkeypatch, running.url)
        yield running


def listed(omnidrop: Run) -> dict[str, Any]:
    result = omnidrop("models", "list", "--json")
    assert result.exit_code == 0, result.exception
    return {model["name"]: model for model in json.loads(result.stdout)["models"] if model["kind"] != "builtin"}


def test_pull_list_path_rm(omnidrop: Run, hub: Hub) -> None:
    assert listed(omnidrop) == {}
    pulled = omnidrop("models", "pull", "owner/model")
    assert pulled.exit_code == 0, pulled.exception
    directory = Path(pulled.stdout.strip())
    assert directory.is_dir()
    model = listed(omnidrop)["owner/model"]
    assert (model["kind"], model["revision"], model["problem"], model["quant"]) == ("hub", COMMIT, None, "none")
    assert model["size_bytes"] == sum(file.stat().st_size for file in directory.rglob("*"))
    assert set(model["needed_mb"]) == {"nf4", "int8", "none"}
    assert set(model["quant_head_mb"]) == {"nf4", "int8"}
    shown = omnidrop("models", "list")
    assert "owner/model" in shown.stdout
    assert "--quant-head nf4: " in shown.stderr
    hub.fetched.clear()
    assert omnidrop("models", "path", "owner/model").stdout.strip() == str(directory)
    assert hub.fetched == []
    refused = omnidrop("models", "rm", "owner/model")
    assert isinstance(refused.exception, UsageError)
    assert directory.is_dir()
    assert omnidrop("models", "rm", "owner/model", "--yes").exit_code == 0
    assert listed(omnidrop) == {}
    assert not directory.exists()


def test_half_a_download_is_reported(omnidrop: Run) -> None:
    directory = Path(omnidrop("models", "pull", "owner/model").stdout.strip())
    next(directory.glob("*.safetensors")).unlink()
    assert "lacks" in listed(omnidrop)["owner/model"]["problem"]
    assert "owner/model cannot load" in omnidrop("models", "list").stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no shared locks")
def test_a_model_in_use_stays(omnidrop: Run, hub: Hub) -> None:
    directory = Path(omnidrop("models", "pull", "owner/model").stdout.strip())
    copy = Path(shutil.copytree(directory, paths.models() / "small-nf4"))
    for name, path, kind in (("owner/model", directory, "models"), (copy.name, copy, "copies")):
        with a_process_that_uses(path):
            refused = omnidrop("models", "rm", name, "--yes").exception
            assert isinstance(refused, ModelError)
            assert f"{name} stays: a running process uses it" in str(refused)
            assert f"{name} stays: a running process uses it" in omnidrop("cache", "clean", kind, "--yes").stderr
            assert (path / "config.json").exists()
        assert omnidrop("models", "rm", name, "--yes").exit_code == 0
        assert not path.exists()


def test_a_quantised_copy_answers_by_its_name(omnidrop: Run, omni: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = omnidrop("models", "quantize", omni, "--quant", "nf4")
    assert made.exit_code == 0, made.exception
    name = made.stdout.strip()
    assert name == f"{omni.name}-nf4"
    assert resolve(ModelConfig(name)).source == str(paths.models() / name)
    copy = listed(omnidrop)[name]
    assert (copy["kind"], copy["quant"], list(copy["needed_mb"])) == ("copy", "nf4", ["nf4"])
    from omnidrop_cli.model import load

    monkeypatch.setattr(load, "keep_in_use", lambda path: None)  # as if another process had loaded it, and ended
    assert load.load(ModelConfig(name)).loaded.quant == "nf4"
    assert isinstance(omnidrop("models", "quantize", omni).exception, ModelError)
    assert omnidrop("models", "rm", name, "--yes").exit_code == 0
    assert not (paths.models() / name).exists()


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["pull", "nano"], UsageError, "on this disk already"),
        (["pull", "random:7b"], UsageError, "random weights"),
        (["path", "owner/model"], ModelError, "not in the cache"),
        (["rm", "owner/model", "--yes"], ModelError, "not on this disk"),
        (["rm", "nano", "--yes"], UsageError, "part of the program"),
        (["quantize", "nano", "--quant", "none"], UsageError, "nothing to do"),
        (["quantize", "nano", "--quant-head", "nf4"], UsageError, "keeps its output matrix"),
        (["pull", "9b"], UsageError, "unknown model"),
    ],
)
def test_mistakes(words: list[str], error: type[Exception], message: str, omnidrop: Run) -> None:
    result = omnidrop("models", *words)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)


def test_unreachable_hub_is_reported(omnidrop: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    point_to(monkeypatch, "http://127.0.0.1:9")
    result = omnidrop("models", "pull", "owner/model")
    assert isinstance(result.exception, ModelError)
    assert "cannot be reached" in result.exception.message


def test_other_models_in_the_cache_are_left_out(omnidrop: Run, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--someone--bert" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text('{"model_type": "bert"}')
    assert listed(omnidrop) == {}


def test_the_cache_command_knows_models_of_the_hub(omnidrop: Run, hub: Hub) -> None:
    """Removed as others are, but not while a process has one loaded."""
    from omnidrop_cli import cache
    from omnidrop_cli.model.load import load

    assert omnidrop("models", "pull", "owner/model").exit_code == 0
    (item,) = cache.items(["models"])
    assert (item.name, item.revision) == ("owner/model", COMMIT)
    assert omnidrop("cache", "clean", "--yes").exit_code == 0
    assert item.path.exists(), "a download of gigabytes goes only where it is named"
    assert omnidrop("cache", "clean", "models", "--yes").exit_code == 0
    assert not item.path.exists()
    assert cache.items(["models"]) == []
    assert omnidrop("models", "pull", "owner/model").exit_code == 0
    load(ModelConfig(name="owner/model"))
    assert "owner/model stays: a running process uses it" in omnidrop("cache", "clean", "models", "--yes").stderr
    assert item.path.exists()
