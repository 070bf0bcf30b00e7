"""Keys change with everything that shapes an answer, and with nothing else."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from omnidrop_cli.batch.keys import BLOCK, BLOCKS, DECODING, content_id, key, stamp
from omnidrop_cli.config import GenerationConfig, MediaConfig, ModelConfig, PruningConfig, Request

JOB = Request("clip.mp4", "who?")


def changed(record: Any, name: str) -> Any:
    value = getattr(record, name)
    special = {"max_frames": 32, "use_video": False, "top_p": 0.5, "start_s": 1.0, "end_s": 5.0, "min_pixels": 784, "max_pixels": 10**6}
    if name in special:
        return special[name]
    other = {bool: lambda v: not v, int: lambda v: v + 1, float: lambda v: v + 1.0, str: lambda v: v + "x"}.get(type(value))
    if other is not None:
        return other(value)
    return {"options": {"a": "1"}, "stop": ("x",), "choices": ("a", "b"), "schema": "{}", "keep": 0.3}.get(name, "x")


@pytest.mark.parametrize("part", [MediaConfig, PruningConfig, GenerationConfig])
def test_every_setting_is_in_the_key(part: type) -> None:
    record, field = part(), {MediaConfig: "media_options", PruningConfig: "method", GenerationConfig: "generation"}[part]
    for name in {f.name for f in fields(part)} - DECODING:
        other = replace(JOB, **{field: replace(record, **{name: changed(record, name)})})
        assert key(other, "c", "m") != key(JOB, "c", "m"), name


def test_keys_of_earlier_versions_still_hold() -> None:
    """A new option must not make every finished answer of a file count for nothing."""
    assert key(JOB, "c", "m") == "4c0c7175d29cd4b7ed16b9451458b68d"


@pytest.mark.parametrize("choice", [{"revision": "v2"}, {"quant": "int8"}, {"dtype": "float32"}])
def test_weights_are_in_the_key(choice: dict[str, str]) -> None:
    assert key(replace(JOB, model=ModelConfig(**choice)), "c", "m") != key(JOB, "c", "m")
    assert key(JOB, "c", "other") != key(JOB, "c", "m") != key(JOB, "other", "m")
    assert key(JOB, "c", "m", "id") != key(JOB, "c", "m") != key(replace(JOB, question="what?"), "c", "m")
    assert key(replace(JOB, system="Be brief."), "c", "m") != key(JOB, "c", "m")


def test_place_and_device_are_not() -> None:
    moved = replace(JOB, media="/else/where.mp4", model=ModelConfig(device="cuda:1", attention="flash_attention_2", offline=True))
    assert key(moved, "c", "m") == key(JOB, "c", "m")


def test_how_tokens_are_decoded_is_not() -> None:
    assert key(replace(JOB, generation=GenerationConfig(prompt_lookup=7)), "c", "m") == key(JOB, "c", "m")


@pytest.mark.parametrize("size", [0, 1, BLOCK, BLOCK * BLOCKS, BLOCK * BLOCKS + 1, BLOCK * BLOCKS * 3])
def test_content_tells_size_ends_and_middle(size: int, tmp_path: Path) -> None:
    data = bytearray(os.urandom(size))
    path = tmp_path / "f"
    path.write_bytes(data)
    before = content_id(str(path))
    path.write_bytes(data + b"\0")
    assert content_id(str(path)) != before
    for place in {0, size - 1} if size else ():
        other = bytearray(data)
        other[place] ^= 1
        path.write_bytes(other)
        assert content_id(str(path)) != before
    path.write_bytes(data)
    assert content_id(str(path)) == before


def test_known_file_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one")
    first = stamp(str(path), {})
    assert stamp(str(path), {first.file: "remembered"}).content == "remembered"
    path.write_bytes(b"longer")
    assert stamp(str(path), {first.file: "remembered"}).content == content_id(str(path))


def test_missing_file_gets_another_content_once_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "f"
    absent = stamp(str(path), {})
    path.write_bytes(b"one")
    assert absent.content.startswith("unreadable")
    assert stamp(str(path), {}).content != absent.content
    assert stamp("https://example.org/a", {}).content == "url:https://example.org/a"
