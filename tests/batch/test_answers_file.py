"""The answers file survives kills, full disks and other people's files."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnidrop_cli.batch.answers_file import FORMAT, AnswersFile, backup, read
from omnidrop_cli.errors import OmnidropError, UsageError
from tests.batch.samples import row


def test_rows_come_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "answers.jsonl"
    with AnswersFile(path) as book:
        book.append(row(1))
        book.append(row(2, error={"type": "MediaError", "message": "not media"}))
    with AnswersFile(path) as book:
        assert book.known.done == {"k1": True, "k2": False}
        assert book.known.contents["1.mp4", 1, 1] == "c1"
        book.append(row(3))
        book.append(row(2))
    assert [one["batch"]["key"] for one in read(path)] == ["k1", "k2", "k3"]
    assert not any("error" in one for one in read(path))
    assert len(path.read_bytes().splitlines()) == 4


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(0, 4), data=st.data())
def test_a_file_cut_anywhere_keeps_every_whole_row(rows: int, data: st.DataObject, tmp_path: Path) -> None:
    lines = [FORMAT.encode(row(number)) for number in range(rows + 1)]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    tail = data.draw(st.sampled_from([b"", b"\0" * 7]))
    path = tmp_path / f"{cut}-{rows}.jsonl"
    path.write_bytes(whole[:cut] + (tail if cut in {sum(map(len, lines[:n])) for n in range(rows + 2)} else b""))
    # A row whose text is whole but for its newline counts as well.
    expected = sum(1 for n in range(rows + 1) if sum(map(len, lines[: n + 1])) - 1 <= cut)
    assert len([*read(path)]) == expected
    with AnswersFile(path) as book:
        assert len(book.known.done) == expected
        book.append(row(99))
    assert path.read_bytes() == b"".join(lines[:expected]) + FORMAT.encode(row(99))


@pytest.mark.parametrize(
    "content", [b"holiday notes", b"\x00\x00\x00\x18ftypmp42" + b"\0" * 40, b'{"a": 1}\n', b'[{"schema": 1}]\n', b"\n"]
)
def test_a_foreign_file_is_refused_and_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="holds no answers"):
        AnswersFile(path)
    with pytest.raises(UsageError):
        [*read(path)]
    with pytest.raises(UsageError):
        backup(path)
    assert path.read_bytes() == content


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(FORMAT.encode(row(1)) + b'{"schema": 1, "ba\n' + FORMAT.encode(row(2)))
    with pytest.raises(UsageError, match="line 2"):
        AnswersFile(path)


@pytest.mark.parametrize("name", ["key", "path", "content", "size", "mtime_ns", "id"])
@pytest.mark.parametrize("value", [1.5, [], {}, True])
def test_a_row_with_a_value_of_another_type_is_named(name: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    wrong = row(2)
    wrong["batch"] = {**wrong["batch"], name: value}
    path.write_bytes(FORMAT.encode(row(1)) + FORMAT.encode(wrong))
    with pytest.raises(UsageError, match="line 2"):
        AnswersFile(path)


def test_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with AnswersFile(path) as book:
        book.append(row(1))
        other = "from omnidrop_cli.batch.answers_file import AnswersFile; import sys; AnswersFile(sys.argv[1])"
        refused = subprocess.run([sys.executable, "-c", other, str(path)], capture_output=True, text=True)
        assert "another process is writing" in refused.stderr
        assert len([*read(path)]) == 1  # readers are welcome meanwhile
        with pytest.raises(UsageError, match="another process"):
            backup(path)
    AnswersFile(path).close()


def test_set_aside_takes_the_first_free_name(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert backup(path) is None
    for number in (1, 2):
        with AnswersFile(path) as book:
            book.append(row(number))
        assert backup(path) == tmp_path / f"a.jsonl.bak-{number}"
    assert not path.exists()


def test_folder_and_unwritable_place(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        AnswersFile(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OmnidropError, match="cannot be opened"):
        AnswersFile(tmp_path / "file" / "a.jsonl")


def test_file_names_of_any_bytes_make_valid_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"clip\xff.mp4")
    path = tmp_path / "a.jsonl"
    with AnswersFile(path) as book:
        book.append(row(1, media={"asked": name}))
    assert json.loads(path.read_bytes().decode("utf-8"))["media"]["asked"] == name


FULL = """
import resource, sys
from omnidrop_cli.batch.answers_file import AnswersFile
from omnidrop_cli.errors import OmnidropError
from tests.batch.samples import row
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
book = AnswersFile(sys.argv[1])
try:
    for number in range(100):
        book.append(row(number))
except OmnidropError as error:
    print(number, error.message)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits")
def test_full_disk_leaves_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    out = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True).stdout
    written = int(out.split()[0])
    assert "cannot be written" in out
    assert path.read_bytes() == b"".join(FORMAT.encode(row(number)) for number in range(written))


WRITER = """
import sys
from omnidrop_cli.batch.answers_file import AnswersFile
from tests.batch.samples import row
with AnswersFile(sys.argv[1]) as book:
    print(flush=True)
    for number in range(100_000):
        if f"k{number}" not in book.known.done:
            book.append(row(number, filler="x" * (number * 7919 % 20_000)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_again_and_again(tmp_path: Path) -> None:
    path, seed = tmp_path / "a.jsonl", random.Random(0)
    for _ in range(20):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(seed.uniform(0, 0.03))
            process.send_signal(signal.SIGKILL)
    with AnswersFile(path) as book:
        count = len(book.known.done)
    rows = path.read_bytes().splitlines()
    assert [json.loads(one)["batch"]["key"] for one in rows] == [f"k{number}" for number in range(count)]
    assert count > 5  # a slow disk takes most of the time between two kills


def test_row_without_schema_first_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="schema"):
        FORMAT.encode({"batch": {}, "schema": 1})
    assert FORMAT.decode(b'{"schema": 1, "batch": {"key": "k"}}') is None
