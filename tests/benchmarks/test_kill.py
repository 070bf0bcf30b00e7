"""A few kills of the long script: every row once, no process left, nothing unfinished."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from tests.benchmarks import kill


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_batch_and_a_killed_download_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "OMP_NUM_THREADS"):
        monkeypatch.setenv(variable, str(tmp_path))  # put back at the end
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    with kill._server() as server:
        found = [case for case in kill.cases(tmp_path, server) if case.name in ("batch", "fetch")]
        tallies = kill.run(found, 8, random.Random(0))
    assert sum(tally.kills for tally in tallies.values()) >= 2
    assert not any(tally.orphans or tally.faults for tally in tallies.values())
