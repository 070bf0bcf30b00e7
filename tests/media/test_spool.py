"""A clip on stdin: a whole file while it is needed, nothing afterwards, and no more than the limit."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from omnidrop_cli import fileio, paths
from omnidrop_cli.errors import MediaError, UsageError
from omnidrop_cli.media.spool import spooled


class Piped(io.TextIOWrapper):
    def isatty(self) -> bool:
        return False


Pipe = Callable[[bytes], None]


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Pipe:
    """`pipe(content)` puts `content` on stdin."""
    return lambda content: monkeypatch.setattr(sys, "stdin", Piped(io.BytesIO(content)))


def left() -> list[Path]:
    return [*paths.downloads().iterdir()] if paths.downloads().exists() else []


def test_another_name_is_left_alone() -> None:
    with spooled("clip.mp4") as name:
        assert name == "clip.mp4"
    assert left() == []


def test_the_copy_lives_as_long_as_the_block(pipe: Pipe) -> None:
    pipe(b"abc" * 1_000_000)
    with spooled("-") as name:
        assert Path(name).read_bytes() == b"abc" * 1_000_000
        fileio.remove_abandoned(paths.downloads())
        assert Path(name).exists(), "its process runs"
    assert left() == []


def test_what_a_killed_process_left_goes(pipe: Pipe) -> None:
    pipe(b"new")
    paths.downloads().mkdir(parents=True)
    old = fileio._part_name(paths.downloads() / "stdin")
    old.write_bytes(b"old")
    with spooled("-"):
        assert not old.exists()


def test_errors_name_stdin_and_leave_no_copy(pipe: Pipe) -> None:
    def fail(name: str) -> NoReturn:
        raise MediaError(f"{name}: no clip", "check it")

    pipe(b"text")
    with pytest.raises(MediaError, match=r"^the clip on stdin: no clip$"), spooled("-") as name:
        fail(name)
    assert left() == []


@pytest.mark.parametrize(("content", "words"), [(b"", "is empty"), (b"x" * 11, "larger than")])
def test_nothing_and_too_much_are_refused(content: bytes, words: str, pipe: Pipe) -> None:
    pipe(content)
    with pytest.raises(MediaError, match=words), spooled("-", limit=10):
        pass
    assert left() == []


def test_a_terminal_is_no_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(Piped):
        def isatty(self) -> bool:
            return True

    for stdin in (Terminal(io.BytesIO(b"x")), None):
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(UsageError, match="nothing is piped"), spooled("-"):
            pass


def test_a_full_disk_is_said(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(b"x")

    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(MediaError, match=r"cannot be kept in .* \(no space left"), spooled("-"):
        pass
