"""Files written whole or not at all, and the screen's manners."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
from pathlib import Path

import pytest
from rich.console import Console as RichConsole

from omnidrop_cli.commands import _console
from omnidrop_cli.commands._console import Console, check_target, dump, write_stdout
from omnidrop_cli.commands._options import ConsoleFlags
from omnidrop_cli.errors import OmnidropError, UsageError
from omnidrop_cli.fileio import write_text


def test_a_file_is_replaced_and_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "answer.txt"
    target.write_text("old")
    target.chmod(0o640)
    write_text(target, "new ż\n")
    assert target.read_text(encoding="utf-8") == "new ż\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["answer.txt"]


def test_a_new_file_has_the_usual_mode(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_text(tmp_path / "new.txt", "x")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "new.txt").stat().st_mode) == 0o640


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "answer.txt"
    target.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OmnidropError, match="cannot be written: no space left"):
        write_text(target, "new")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["answer.txt"]


def test_devices_are_written_to_not_replaced() -> None:
    write_text(Path(os.devnull), "x")
    assert not Path(os.devnull).is_file()


def test_a_target_that_cannot_be_is_refused_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_target(None)
    check_target(tmp_path / "new.txt")
    with pytest.raises(UsageError, match="is a folder"):
        check_target(tmp_path)
    with pytest.raises(UsageError, match="no folder"):
        check_target(tmp_path / "none" / "a.txt")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UsageError, match="cannot be written to"):
        check_target(tmp_path / "new.txt")


def test_a_result_never_replaces_what_was_read(tmp_path: Path) -> None:
    clip, link = tmp_path / "a.mp4", tmp_path / "link.mp4"
    clip.touch()
    link.symlink_to(clip)
    for target in (clip, link, tmp_path / "." / "a.mp4"):
        with pytest.raises(UsageError, match="would replace a file that this command reads"):
            check_target(target, inputs=["https://example.org/x", "auto", str(clip)])
    check_target(tmp_path / "b.mp4", inputs=[clip])


def test_closed_stdout_is_no_drama(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    write_stdout("x")


def test_json_lines_refuse_what_json_lacks() -> None:
    assert json.loads(dump({"a": "ż\u009b"})) == {"a": "ż\u009b"}
    assert "\u009b" not in dump({"a": "\u009b"})
    with pytest.raises(ValueError):
        dump({"a": float("nan")})


def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    out = io.StringIO()
    console = RichConsole(file=out, force_terminal=True, width=80, markup=False, highlight=False)
    monkeypatch.setattr(_console, "_rich", lambda flags, stderr: console)
    monkeypatch.setattr(_console, "_is_live", lambda: True)
    return out


def test_the_bar_goes_before_the_answer_begins(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = terminal(monkeypatch)
    with Console(ConsoleFlags(), stream=True) as screen:
        screen.stage("decode", "[red]x[/]\x1b]0;t\x07")
        screen.advance(1, 4)
        screen.text("\x1b")  # nothing to show yet
        assert not screen.streamed
        screen.text("word")
        size = len(drawn.getvalue())
        screen.stage("generate")
        screen.advance(2, 4)
    assert capsys.readouterr().out == "word\n"
    assert "[red]x[/]]0;t" in drawn.getvalue()
    assert len(drawn.getvalue()) == size


def test_an_error_takes_the_bar_away(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = terminal(monkeypatch)
    screen = Console(ConsoleFlags())
    with screen:
        screen.stage("decode")
        screen.__exit__(RuntimeError, RuntimeError(), None)
    assert drawn.getvalue().count("\x1b[?25l") == drawn.getvalue().count("\x1b[?25h") > 0


def test_a_quiet_screen_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = terminal(monkeypatch)
    with Console(ConsoleFlags(quiet=True)) as screen:
        screen.stage("decode")
        screen.warn("odd")
        screen.show("table")
    assert drawn.getvalue() == ""
