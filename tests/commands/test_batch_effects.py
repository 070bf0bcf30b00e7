"""Every option of `batch` changes what runs: from the command line to the effect, on a real clip with nano.

`python -m tests.benchmarks.break_flags batch` forces each option to its default and reports the tests that notice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from omnidrop_cli import paths
from omnidrop_cli.batch import ray_pool
from omnidrop_cli.config import ModelConfig
from omnidrop_cli.errors import UsageError
from tests.commands.effects import ANSWERING, READING_ELSEWHERE, Row, Run, check_complete, generated, leaving
from tests.commands.running import Done


@dataclass(frozen=True)
class Ran:
    """A batch that ended: its streams and exit code, the rows of its file, and the names of the files it left."""

    done: Done
    rows: list[dict[str, Any]]
    files: list[str]


def last(effect: Callable[[dict[str, Any]], Any]) -> Callable[[Ran], Any]:
    return lambda ran: effect(ran.rows[-1])


def count(ran: Ran) -> Any:
    return len(ran.rows)


def files(ran: Ran) -> Any:
    return ran.files


def code(ran: Ran) -> Any:
    return ran.done.code


def lines(ran: Ran) -> Any:
    return len(ran.done.err.splitlines())


def error(ran: Ran) -> Any:
    return str(ran.done.error)


EFFECTS = (
    *(replace(row, effect=last(row.effect)) for row in ANSWERING),
    Row("method", ("none",), last(leaving)),
    Row("seed", ("5",), last(generated), ("--temperature", "3")),
    Row("question", ("What is shown?",), count),
    Row("input", ("questions.list",), count),
    Row("limit", ("1",), count, ("-q", "What is shown?")),
    Row("output", ("b.jsonl",), files),
    Row("export", ("a.csv",), files),
    Row("log-file", ("run.log",), files),
    Row("dry-run", (), count),
    Row("force", (), files),
    Row("retry-failed", (), count, ("broken.mp4",)),
    Row("strict", (), code, ("broken.mp4",)),
    Row("devices", ("cuda:77",), error),
    Row("device", ("cuda:77",), error),
    Row("attn", ("flash_attention_2",), error),
    Row("quiet", (), lines),
    Row("verbose", (), lines),
)

REPEATED = ("force", "retry-failed", "strict")
"""Options about an earlier run: the command without the option runs first, in the same folder."""

ELSEWHERE: Mapping[str, str] = {
    **READING_ELSEWHERE,
    "model": "tests/batch/test_batch_command.py; every test here names nano",
    "offline": "test_offline_reaches_what_fetches",
    "feature-cache": "test_encoder_outputs_are_kept_on_disk_unless_refused",
    "cluster": "test_a_cluster_has_its_workers",
    "workers": "test_a_cluster_has_its_workers",
}
"""Options whose effect cannot be seen in nano's rows, and where it is tested."""


@pytest.fixture(scope="module")
def memory() -> dict[str, Ran]:
    """Runs by their command lines: many rows are compared with the same plain command."""
    return {}


@pytest.fixture
def run(omnidrop: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: dict[str, Ran]) -> Callable[..., Ran]:
    """Runs batches about the demo clip one after another in a new folder, which holds a clip that is none and a question file."""

    def batches(*flags: tuple[str, ...]) -> Ran:
        key = " then ".join(" ".join(words) for words in flags)
        if key not in memory:
            folder = tmp_path / str(len(memory))
            folder.mkdir()
            monkeypatch.chdir(folder)
            (folder / "broken.mp4").write_text("no video")
            (folder / "questions.list").write_text('{"media": "demo", "question": "What is shown?"}')
            done = [omnidrop("batch", "demo", "-q", "What is said?", "--model", "nano", *words) for words in flags][-1]
            rows = [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text(encoding="utf-8").splitlines()]
            memory[key] = Ran(done, rows, sorted(os.listdir(folder)))
        return memory[key]

    return batches


@pytest.mark.parametrize("row", EFFECTS, ids=lambda row: row.flag)
def test_an_option_has_its_effect(run: Callable[..., Ran], row: Row) -> None:
    earlier = [row.given] if row.flag in REPEATED else []
    assert row.effect(run(*earlier, (*row.given, *row.words))) != row.effect(run(*earlier, row.given))


def test_encoder_outputs_are_kept_on_disk_unless_refused(omnidrop: Run) -> None:
    words = ("batch", "demo", "-q", "What is said?", "--model", "nano")
    assert omnidrop(*words, "--no-feature-cache").code == 0
    assert not paths.features().exists()
    assert omnidrop(*words, "--force").code == 0
    assert paths.features().exists()


def test_offline_reaches_what_fetches(omnidrop: Run) -> None:
    done = omnidrop("batch", "https://example.org/clip.mp4", "-q", "what?", "--model", "nano", "--offline")
    assert done.code == 3
    assert "offline" in Path("answers.jsonl").read_text(encoding="utf-8")


def test_a_cluster_has_its_workers(omnidrop: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself is in tests/batch/test_pools.py."""
    asked: list[tuple[str, int | None]] = []

    def cluster(choice: ModelConfig, address: str, size: int | None = None) -> None:
        asked.append((address, size))
        raise UsageError("no cluster")

    monkeypatch.setattr(ray_pool, "Cluster", cluster)
    omnidrop("batch", "demo", "-q", "what?", "--model", "nano", "--cluster", "local", "--workers", "3")
    assert asked == [("local", 3)]


def test_every_option_is_in_a_table() -> None:
    check_complete("batch", EFFECTS, ELSEWHERE)
