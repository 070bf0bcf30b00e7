"""Records which test runs which line of omnidrop_cli, and how long each test takes; `tests.benchmarks.mutate` chooses tests by it.

`python -m pytest -p tests.benchmarks.lines_of_tests --lines lines/ tests/prune` writes `lines/`: one coverage file and one JSON file of
seconds for each run. Runs over several folders of tests add up. What a test runs in a child process is not recorded.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import coverage
import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--lines", type=Path, help="the folder that the record goes to")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--lines"):
        config.pluginmanager.register(Recorder(config.getoption("--lines")))


class Recorder:
    """The plugin of one run: a coverage context for each test."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._seconds: dict[str, float] = defaultdict(float)
        self._file = folder / f"{os.getpid()}"
        self._coverage = coverage.Coverage(
            data_file=str(self._file.with_suffix(".coverage")), source_pkgs=["omnidrop_cli"], config_file=False
        )
        self._coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._coverage.switch_context(item.nodeid)
        result = yield
        self._coverage.switch_context("")
        return result  # type: ignore[return-value]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid] += report.duration

    def pytest_unconfigure(self) -> None:
        self._coverage.stop()
        self._coverage.save()
        self._file.with_suffix(".json").write_text(json.dumps(self._seconds), encoding="utf-8")


@dataclass(frozen=True)
class Lines:
    """What runs recorded: `tests[file][line]` are the tests that run a line, `seconds[test]` the time each test takes."""

    tests: dict[str, dict[int, set[str]]]
    seconds: dict[str, float]

    @classmethod
    def read(cls, folder: Path) -> Lines:
        """Adds up the runs recorded in `folder`; files are named from `omnidrop_cli/` on. Lines run by imports have no tests."""
        tests: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        seconds: dict[str, float] = {}
        for record in sorted(folder.glob("*.json")):
            seconds |= json.loads(record.read_text(encoding="utf-8"))
            data = coverage.CoverageData(str(record.with_suffix(".coverage")))
            data.read()
            for file in data.measured_files():
                name = Path(file).as_posix().partition("/omnidrop_cli/")[2]
                for line, contexts in data.contexts_by_lineno(file).items():
                    tests[f"omnidrop_cli/{name}"][line] |= set(contexts) - {""}
        return cls(tests, seconds)
