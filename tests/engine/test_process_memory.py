"""Memory of processes is in megabytes on every platform."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest

from omnidrop_cli.engine import process_memory


@pytest.mark.parametrize(
    ("platform", "maxrss"), [("linux", 200_000_000 // 1024), ("freebsd14", 200_000_000 // 1024), ("darwin", 200_000_000)]
)
def test_a_peak_is_in_megabytes(platform: str, maxrss: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """getrusage counts kibibytes, on macOS bytes."""
    monkeypatch.setattr(process_memory, "of_process", lambda what, pid="self": None)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=maxrss))
    assert process_memory.peak_mb() == pytest.approx(200.0, abs=0.01)
    assert process_memory.now_mb() == pytest.approx(200.0, abs=0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_peak_outlasts_what_it_measured_until_it_is_reset() -> None:
    process_memory.reset_peak()
    before = process_memory.peak_mb()
    block = bytearray(b"x") * 64_000_000
    held = process_memory.now_mb()
    assert process_memory.peak_mb() - before == pytest.approx(64, abs=6)
    del block
    assert process_memory.now_mb() == pytest.approx(held - 64, abs=6)
    assert process_memory.peak_mb() >= held - 6
    process_memory.reset_peak()
    assert process_memory.peak_mb() < held - 50


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_another_process_is_measured_while_it_runs() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert 0 < (process_memory.of_process("now", process.pid) or 0) < 100
        process.kill()
    assert process_memory.of_process("now", process.pid) is None
    assert process_memory.of_process("peak", os.getpid()) == pytest.approx(process_memory.peak_mb(), abs=5)
