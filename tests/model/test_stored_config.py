"""Whatever a checkpoint's JSON files hold, loading answers or says one line, and builds nothing of another size."""

from __future__ import annotations

import copy
import json
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnidrop_cli.config import ModelConfig
from omnidrop_cli.errors import ModelError, OmnidropError
from omnidrop_cli.model.load import load
from omnidrop_cli.model.names import resolve
from omnidrop_cli.model.stored_config import read_json

DEEP = 100_000


def deep_json(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


FILES = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "tokenizer.json", "generation_config.json")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [deep_json(DEEP), "[1]", "null", "{", "", '{"a": NaN', "\x00\xff"])
def test_files_that_are_no_object(name: str, content: str, plain_checkpoint: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(plain_checkpoint, tmp_path / "model")
    (directory / name).write_text(content)
    if name == "generation_config.json":  # never read: answers are sampled as the user asks
        load(ModelConfig(str(directory), device="cpu"))
        return
    with pytest.raises(ModelError) as caught:
        load(ModelConfig(str(directory), device="cpu"))
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 500


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ModelError, match="larger than"):
        read_json(path)


@pytest.mark.parametrize("section", ["text_config", "vision_config", "audio_config"])
@pytest.mark.parametrize("value", [None, [], "7b", 3, "absent"])
def test_a_section_that_is_none_builds_nothing(section: str, value: object, plain_checkpoint: Path, tmp_path: Path) -> None:
    """transformers takes the 7B model's sizes for a section that is null, and would allocate them."""
    directory = shutil.copytree(plain_checkpoint, tmp_path / "model")
    config = json.loads((directory / "config.json").read_text())
    config[section] = value
    if value == "absent":
        del config[section]
    (directory / "config.json").write_text(json.dumps(config))
    for attempt in (resolve, load):
        with pytest.raises(ModelError, match=section):
            attempt(ModelConfig(str(directory), device="cpu"))  # type: ignore[operator]  # both take one


def test_the_sizes_of_another_model_allocate_nothing(plain_checkpoint: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(plain_checkpoint, tmp_path / "model")
    config = json.loads((directory / "config.json").read_text())
    config["text_config"] = {"model_type": "qwen2_5_omni_text"}  # the 7B model's
    (directory / "config.json").write_text(json.dumps(config))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match="describes"):
        load(ModelConfig(str(directory), device="cpu"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kilobytes; the 7B's decoder has 15 million


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of every key of an object, at any depth."""
    for key, item in value.items():
        yield (*path, key)
        if isinstance(item, dict):
            yield from leaves(item, (*path, key))


WRONG: list[Any] = [
    None,
    "x",
    "",
    -1,
    0,
    1,
    1.5,
    1e308,
    10**30,
    True,
    [],
    [1],
    ["x"],
    {},
    {"a": [None]},
    float("nan"),
    "\x1b[31m",
    "cuda",
    "load",
]


def replaced(original: dict[str, Any], path: tuple[str, ...], value: Any) -> str:
    config = copy.deepcopy(original)
    section = config
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    return json.dumps(config)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_field_of_any_type(plain_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    directory = tmp_path_factory.mktemp("fields")
    shutil.copytree(plain_checkpoint, directory, dirs_exist_ok=True)
    original = json.loads((directory / "config.json").read_text())
    field, value = data.draw(st.sampled_from(list(leaves(original)))), data.draw(st.sampled_from(WRONG))
    (directory / "config.json").write_text(replaced(original, field, value))
    message = ""
    try:
        load(ModelConfig(str(directory), device="cpu"))
    except OmnidropError as error:  # anything else is a failure
        message = error.message
    assert "\n" not in message
    assert len(message) < 600
