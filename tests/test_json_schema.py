"""Schemas as users give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from omnidrop_cli.config import GenerationConfig
from omnidrop_cli.errors import UsageError
from omnidrop_cli.json_schema import schema_text

TEXT = '{"type": "object", "properties": {"z": {"enum": ["größer"]}, "a": {}}}'


def test_text_file_and_mapping_are_one_schema_with_its_keys_in_order(tmp_path: Path) -> None:
    path = tmp_path / "shape.json"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.replace(",", ",\n").encode())
    mapping = {"type": "object", "properties": {"z": {"enum": ["größer"]}, "a": {}}}
    for given in (TEXT, f" {TEXT}", str(path), path, mapping, schema_text(TEXT)):
        assert schema_text(given) == TEXT
        assert GenerationConfig(schema=given).schema == TEXT  # type: ignore[arg-type]  # what `Session.ask` passes on


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{", "`schema` is no JSON"),
        ("[1]", "a list"),
        ("none.json", "none.json: no such file"),
        ("a\0b", "cannot be read|no such file"),
        (".", "not a file"),
        (5, "`schema` is a int"),
        ({"x": {1, 2}}, "cannot be written"),
        ("[" * 100_000, "no JSON"),
        ("", "not a file|no such file"),
    ],
    ids=lambda value: str(value)[:12].encode("unicode_escape").decode(),
)
def test_what_is_no_schema(given: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        schema_text(given)


@pytest.mark.parametrize(
    ("content", "message"), [(b"\xff\xfe{}", "cannot be read"), (b"", "no JSON"), (b"3", "a number"), (b"null", "null")]
)
def test_what_is_no_schema_in_a_file(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "shape.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        schema_text(str(path))
