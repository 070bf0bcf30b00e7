"""Text on stdin: with and without a byte order mark, without an end."""

from __future__ import annotations

import io

import pytest

from omnidrop_cli.errors import UsageError
from omnidrop_cli.stdin import read_line, read_stdin


def test_text_has_no_mark_and_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\ufeffwhat?\nwho?\n"))
    assert read_stdin(12) == "what?\nwho?\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("what?\nwho?"))
    assert [read_line(6), read_line(6), read_line(6)] == ["what?\n", "who?", None]


@pytest.mark.parametrize("read", [read_stdin, read_line])
def test_what_has_no_end_is_refused(read: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y" * 13))
    with pytest.raises(UsageError, match="more than 12 characters"):
        read(12)  # type: ignore[operator]
