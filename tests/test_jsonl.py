"""Rows of other versions count for nothing, and no content of a file is taken for a bug of ours."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from omnidrop_cli import jsonl
from omnidrop_cli.batch import answers_file
from omnidrop_cli.batch.answers_file import AnswersFile
from omnidrop_cli.batch.export import to_csv, to_markdown
from omnidrop_cli.errors import OmnidropError, UsageError
from omnidrop_cli.evaluate import results
from omnidrop_cli.evaluate.items import Row
from omnidrop_cli.jsonl import RowFormat
from tests.batch.samples import row

RESULT = Row("k", "avut", "q", "a.mp4", "none", {}, "A", error={"type": "MediaError", "message": "x", "hint": None}).to_json()
KINDS = pytest.mark.parametrize(
    ("kind", "good"), [(answers_file.FORMAT, row(1)), (results.FORMAT, RESULT)], ids=["answers of batch", "results of evaluate"]
)
DEEP = "[" * 100_000 + "]" * 100_000

VALUES = (None, True, 3, -1.5, 10**30, "x", "", [], [1], [[]], {}, {"a": {"b": []}}, ...)
"""What a field is replaced by; the last one takes it away."""


def places(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The ways to every field of a row, also to nested ones."""
    found = [path] if path else []
    for name in value if isinstance(value, dict) else ():
        found += places(value[name], (*path, name))
    return found


@KINDS
def test_a_row_with_any_field_replaced_is_a_row_or_none(kind: RowFormat[Any], good: dict[str, Any]) -> None:
    for *way, name in places(good):
        for value in VALUES:
            changed = json.loads(json.dumps(good))
            inside = changed
            for step in way:
                inside = inside[step]
            if value is ...:
                del inside[name]
            else:
                inside[name] = value
            decoded = kind.decode(json.dumps(changed).encode())
            if isinstance(decoded, Row):
                assert {decoded.key: decoded}
            elif isinstance(decoded, dict):
                known = answers_file.Known()
                known.note(decoded)
                assert len(known.done) == len(known.contents) == 1
                assert "".join(to_csv([decoded]))
                assert "".join(to_markdown([decoded]))


@KINDS
@pytest.mark.parametrize("line", [b"", b"\n", b"{", b"null\n", b"3\n", b'"schema"\n', b"[]\n", b"\xff\xfe\n", DEEP.encode()])
def test_other_lines_are_no_rows(kind: RowFormat[Any], good: dict[str, Any], line: bytes) -> None:
    assert kind.decode(line) is None
    assert kind.decode(kind.encode(good)) is not None


@KINDS
@pytest.mark.parametrize("schema", [0, 3, 99])
def test_rows_of_another_version_count_for_nothing_and_stay(
    kind: RowFormat[Any], good: dict[str, Any], schema: int, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    other = kind.encode({**good, "schema": kind.schema}).replace(f'"schema": {kind.schema}'.encode(), f'"schema": {schema}'.encode(), 1)
    path.write_bytes(other)
    noted: list[Any] = []
    with jsonl.JsonlStore(path, kind, noted.append) as store:
        assert (noted, store.others) == ([], 1)
        store.append(good)
    assert path.read_bytes() == other + kind.encode(good)
    assert [at for at, _ in jsonl.read_rows(path, kind)] == [len(other)]


def test_the_rows_of_one_command_are_foreign_to_the_other(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(answers_file.FORMAT.encode(row(1)))
    (tmp_path / "r.jsonl").write_bytes(results.FORMAT.encode(RESULT))
    with pytest.raises(OmnidropError, match="not a result"):
        results.load(tmp_path / "a.jsonl")
    with pytest.raises(UsageError, match="holds no answers"):
        AnswersFile(tmp_path / "r.jsonl")


def test_an_answers_file_of_another_version_is_answered_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(answers_file.FORMAT.encode(row(1)) + answers_file.FORMAT.encode(row(2)).replace(b'{"schema": 1', b'{"schema": 7'))
    with AnswersFile(path) as book:
        assert book.known.done == {"k1": True}
    assert answers_file.look(path).done == {"k1": True}
    assert [one["batch"]["key"] for one in answers_file.read(path)] == ["k1"]


@pytest.mark.skipif(os.name == "nt", reason="no pipes in folders")
def test_a_pipe_is_no_place_for_rows(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe or device"):
        AnswersFile(tmp_path / "pipe")


def test_deep_json_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        jsonl.parse_json(DEEP)
