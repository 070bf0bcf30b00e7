"""Rows of other versions count for nothing, and no content of a file is taken for a bug of ours."""

from __future__ import annotations

import json
import os
import stat
import sys
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


@KINDS
@pytest.mark.parametrize("refusal", ["write", "half", "fsync"])
def test_a_disk_that_refuses_leaves_the_rows_before(
    kind: RowFormat[Any], good: dict[str, Any], refusal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, line, write = tmp_path / "rows.jsonl", kind.encode(good), os.write

    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    replaced = {"write": ("write", fails), "half": ("write", lambda to, data: write(to, data[:-3])), "fsync": ("fsync", fails)}[refusal]
    path.write_bytes(line + line[:-1])  # the last row has lost its line end, which opening the file gives back
    with jsonl.JsonlStore(path, kind, lambda row: None) as store:
        for rows in (2, 3):
            with monkeypatch.context() as patch:
                patch.setattr(os, *replaced)
                with pytest.raises(OmnidropError, match="No space" if refusal == "half" else "Input/output"):
                    store.append(good, good)
            assert path.read_bytes() == line * rows
            store.append(good)
    assert path.read_bytes() == line * 4


@pytest.mark.skipif(os.name == "nt", reason="folders are not synced there")
def test_a_file_is_on_the_disk_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[bool, int]] = []

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced.append((stat.S_ISDIR(status.st_mode), status.st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    line = answers_file.FORMAT.encode(row(1))
    (tmp_path / "a.jsonl").write_bytes(line + line[:9])
    AnswersFile(tmp_path / "a.jsonl").close()
    assert [is_folder for is_folder, _ in synced] == [True, False]  # the name of the file, then the file without its torn row
    assert synced[1][1] == len(line)


@pytest.mark.skipif(sys.platform != "linux", reason="lists open files")
def test_no_file_stays_open_or_locked(tmp_path: Path) -> None:
    path, before = tmp_path / "a.jsonl", len(os.listdir("/proc/self/fd"))
    path.write_bytes(b"holiday notes\n")
    with pytest.raises(UsageError, match="holds no answers"):
        AnswersFile(path)
    path.unlink()
    with AnswersFile(path), pytest.raises(UsageError, match="another process"):
        AnswersFile(path)
    AnswersFile(path).close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.skipif(os.name == "nt", reason="no permissions")
def test_a_new_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    AnswersFile(tmp_path / "a.jsonl").close()
    (tmp_path / "other").touch()
    assert (tmp_path / "a.jsonl").stat().st_mode == (tmp_path / "other").stat().st_mode


@KINDS
def test_readers_name_the_damaged_line(kind: RowFormat[Any], good: dict[str, Any], tmp_path: Path) -> None:
    path, line = tmp_path / "rows.jsonl", kind.encode(good)
    path.write_bytes(line + line[: len(line) // 2] + b"\n" + line)
    with pytest.raises(OmnidropError, match="line 2:"):
        [*jsonl.read_rows(path, kind)]
    with pytest.raises(OmnidropError, match="line 2:"):
        jsonl.JsonlStore(path, kind, lambda row: None)


def test_results_of_the_version_before_are_read_and_answers_of_one_are_not(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_bytes(results.FORMAT.encode({**RESULT, "schema": 1}))
    assert [*results.load(tmp_path / "r.jsonl")] == ["k"]
    with results.ResultsFile(tmp_path / "r.jsonl") as file:
        assert (file.others, file.done("k"), file.done("other")) == (0, False, False)
        file.add(Row("k", "avut", "q", "a.mp4", "none", {}, "A"))
        assert file.done("k")
    assert results.load(tmp_path / "r.jsonl")["k"].error is None
    assert results.load(tmp_path / "none.jsonl") == {}


def test_rows_are_strict_json_that_people_can_read() -> None:
    with pytest.raises(ValueError, match="JSON"):
        answers_file.FORMAT.encode(row(1, seconds=float("nan")))
    assert "grün".encode() in answers_file.FORMAT.encode(row(1, answer="grün"))


@pytest.mark.parametrize("flag", [True, False])
def test_a_truth_value_is_no_number(flag: bool) -> None:
    with pytest.raises(ValueError, match="'n' is bool"):
        jsonl.field({"n": flag}, "n", int)
    assert jsonl.field({"n": flag}, "n", bool) is flag


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(OmnidropError, match="cannot be read: No such file"):
        [*answers_file.read(tmp_path / "a.jsonl")]
    assert answers_file.look(tmp_path / "a.jsonl") == answers_file.Known()
