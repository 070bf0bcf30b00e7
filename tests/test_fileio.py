"""Files and folders appear whole or not at all, and what a killed process began goes away."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omnidrop_cli import fileio
from omnidrop_cli.errors import OmnidropError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and permissions of POSIX")

BEGIN = """
import sys, time
from pathlib import Path
from omnidrop_cli import fileio
make = getattr(fileio, sys.argv[1])
with make(Path(sys.argv[2])) as part:
    part = part or Path(sys.argv[2])
    (part / "half" if part.is_dir() else part).write_text("half")
    print(flush=True)
    time.sleep(60)
"""


def begin(kind: str, target: Path) -> subprocess.Popen[bytes]:
    """A process that has begun to write `target`."""
    process = subprocess.Popen([sys.executable, "-c", BEGIN, kind, str(target)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def write(kind: str, target: Path) -> None:
    with getattr(fileio, kind)(target) as part:
        (part / "whole" if part.is_dir() else part).write_text("whole")


@pytest.mark.parametrize("kind", ["replacing", "new_folder"])
def test_what_a_killed_process_began_is_removed_by_the_next(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    with begin(kind, target) as process:
        assert len([*tmp_path.iterdir()]) == 1
        process.send_signal(signal.SIGKILL)
    assert not target.exists()
    write(kind, target)
    assert [*tmp_path.iterdir()] == [target]
    if target.is_dir():
        assert [file.name for file in target.iterdir()] == ["whole"]


@pytest.mark.parametrize("kind", ["replacing", "new_folder"])
def test_what_a_living_process_writes_is_left_alone(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    with begin(kind, target) as process:
        [part] = tmp_path.iterdir()
        fileio.remove_abandoned(tmp_path)
        write(kind, target)
        assert sorted(tmp_path.iterdir()) == sorted([part, target])
        process.send_signal(signal.SIGKILL)
    fileio.remove_abandoned(tmp_path, older_than_s=60)
    assert part.exists()
    fileio.remove_abandoned(tmp_path)
    assert [*tmp_path.iterdir()] == [target]


@pytest.mark.parametrize("kind", ["replacing", "new_folder"])
def test_an_error_leaves_nothing(kind: str, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), getattr(fileio, kind)(tmp_path / "deep.bin" if kind == "replacing" else tmp_path / "a" / "b"):
        raise KeyboardInterrupt
    assert [path for path in tmp_path.rglob("*") if path.name != "a"] == []


def test_a_file_is_replaced_through_links_and_keeps_its_permissions(tmp_path: Path) -> None:
    target, link = tmp_path / "a.json", tmp_path / "link.json"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    with fileio.replacing(link) as part:
        part.write_text("new")
        assert part.suffix == ".json"
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    with fileio.replacing(tmp_path / "fresh") as part:
        pass
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "fresh").stat().st_mode) == 0o666 & ~umask


def test_names_as_long_as_names_can_be(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 250 + ".txt")
    fileio.write_text(target, "ü\n")
    assert target.read_bytes() == "ü\n".encode()


def test_a_folder_that_exists_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError), fileio.new_folder(tmp_path / "there"):
        pytest.fail("the block ran")


def test_one_process_at_a_time_has_a_folder(tmp_path: Path) -> None:
    with begin("locked_folder", tmp_path / "work") as process:
        pass_on = subprocess.run([sys.executable, "-c", TRY, str(tmp_path / "work")], capture_output=True, text=True)
        assert "BlockingIOError" in pass_on.stderr
        process.send_signal(signal.SIGKILL)
    with fileio.locked_folder(tmp_path / "work"):
        (tmp_path / "work" / "mine").touch()
    assert "mine" in {file.name for file in (tmp_path / "work").iterdir()}
    assert fileio._LOCK not in {file.name for file in (tmp_path / "work").iterdir()}


TRY = """
import sys
from pathlib import Path
from omnidrop_cli.fileio import locked_folder
with locked_folder(Path(sys.argv[1])):
    pass
"""


def test_where_the_file_system_has_no_locks_nothing_is_taken_for_abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fileio, "try_lock", lambda descriptor: None)
    with begin("replacing", tmp_path / "a") as process:
        fileio.write_text(tmp_path / "a", "x")
        assert len([*tmp_path.iterdir()]) == 2
        process.send_signal(signal.SIGKILL)


def test_an_unwritable_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OmnidropError, match="cannot be written") as caught:
        fileio.write_text(tmp_path / "file" / "a.txt", "x")
    assert caught.value.hint


def test_two_writers_of_one_file_both_succeed(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    script = "import sys; from pathlib import Path; from omnidrop_cli.fileio import write_text\n"
    script += "for n in range(200): write_text(Path(sys.argv[1]), sys.argv[2] * 5000)"
    writers = [subprocess.Popen([sys.executable, "-c", script, str(target), letter], stderr=subprocess.PIPE) for letter in "ab"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if target.exists():
            seen.add(target.read_text())
        time.sleep(0.001)
    assert [writer.communicate()[1] for writer in writers] == [b"", b""]
    assert seen <= {"a" * 5000, "b" * 5000}
    assert [*tmp_path.iterdir()] == [target]
