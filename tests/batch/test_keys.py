"""Keys change with everything that shapes an answer, and with nothing else."""

from __future__ import annotations

import hashlib
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from omnidrop_cli import __version__
from omnidrop_cli.batch.keys import BLOCK, BLOCKS, DECODING, content_id, key, model_id, stamp
from omnidrop_cli.config import GenerationConfig, MediaConfig, ModelConfig, PruningConfig, Request
from omnidrop_cli.model.names import resolve

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


def test_the_content_of_a_subtitle_file_is_in_the_key(tmp_path: Path) -> None:
    clip, file = tmp_path / "talk.mp4", tmp_path / "talk.srt"
    job = replace(JOB, media=str(clip), media_options=MediaConfig(subtitles="auto"))
    keys = {key(job, "c", "m")}
    for words in ("one", "two"):
        file.write_text(words)
        keys.add(key(job, "c", "m"))
    assert len(keys) == 3


def test_keys_of_earlier_versions_still_hold() -> None:
    """A new option must not make every finished answer of a file count for nothing."""
    assert key(JOB, "c", "m") == "4c0c7175d29cd4b7ed16b9451458b68d"


@pytest.mark.parametrize("choice", [{"revision": "v2"}, {"quant": "int8"}, {"quant_head": "int8"}, {"dtype": "float32"}])
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
    assert stamp("a\0b.mp4", {}).content.startswith("unreadable")
    assert stamp("https://me:secret@example.org/a", {}) == stamp("https://example.org/a", {})


@pytest.mark.parametrize("size", [5, BLOCK * BLOCKS, BLOCK * BLOCKS + 1, BLOCK * BLOCKS * 2 + 77])
def test_content_ids_are_those_of_earlier_versions(size: int, tmp_path: Path) -> None:
    """Sixteen blocks of 64 KiB from the first byte to the last, evenly spaced; a file of up to a mebibyte whole."""
    data = bytes(at * 7919 >> 8 & 255 for at in range(size))
    (tmp_path / "f").write_bytes(data)
    starts = [(size - 65_536) * index // 15 for index in range(16)]
    read = data if size <= 1 << 20 else b"".join(data[at : at + 65_536] for at in starts)
    assert content_id(tmp_path / "f") == hashlib.sha256(f"{size}:".encode() + read).hexdigest()[:32]


def test_what_is_no_file_on_the_disk_has_no_size_and_no_time(tmp_path: Path) -> None:
    for media in ("https://example.org/a", str(tmp_path / "missing"), str(tmp_path)):
        assert (stamp(media, {}).size, stamp(media, {}).mtime_ns) == (0, 0)
    (tmp_path / "f").write_bytes(b"four")
    os.utime(tmp_path / "f", ns=(5, 7))
    assert stamp(str(tmp_path / "f"), {}).file == (str(tmp_path / "f"), 4, 7)


def test_weights_are_named_by_their_source() -> None:
    assert model_id(resolve(ModelConfig("nano"))) == f"nano@{__version__}"
    assert model_id(resolve(ModelConfig("3b"))) == "hub:Qwen/Qwen2.5-Omni-3B"
