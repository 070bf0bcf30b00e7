"""Without a callback, warnings and stages go to `logging`; commands show them on request; stdout stays empty."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from omnidrop_cli.commands import _exit
from omnidrop_cli.events import SILENT


@pytest.fixture(autouse=True)
def _logger_as_before() -> Iterator[None]:
    logger = logging.getLogger("omnidrop")
    before = (logger.handlers, logger.propagate, logger.level)
    logger.handlers, logger.propagate = [], True
    yield
    logger.handlers, logger.propagate = before[:2]
    logger.setLevel(before[2])


def test_a_library_user_reads_warnings_and_stages_in_his_log(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.INFO, "omnidrop"):
        SILENT.warn("half of the frames are %d missing")
        SILENT.stage("fetch", "clip.mp4")
    assert [(one.name, one.levelname, one.getMessage()) for one in caplog.records] == [
        ("omnidrop", "WARNING", "half of the frames are %d missing"),
        ("omnidrop", "INFO", "fetch clip.mp4"),
    ]
    assert capsys.readouterr().out == ""


def test_python_writes_warnings_to_stderr_where_no_log_is_set_up() -> None:
    code = "from omnidrop_cli.events import SILENT; SILENT.warn('odd'); SILENT.stage('load')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "odd\n")


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        ([], ""),
        (["--quiet"], ""),
        (["-v"], "omnidrop: WARNING: odd\n"),
        (["--verbose"], "omnidrop: WARNING: odd\n"),
        (["--debug"], "omnidrop: WARNING: odd\nomnidrop: INFO: load\n"),
    ],
)
def test_commands_show_them_on_request(flags: list[str], shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    _exit._set_up_logging(["ask", "clip.mp4", "what?", *flags])
    SILENT.warn("odd")
    SILENT.stage("load")
    assert capsys.readouterr() == ("", shown)
