"""Every option of `evaluate` changes what runs: from the command line to the effect, on a real clip with nano.

`python -m tests.benchmarks.break_flags evaluate` forces each option to its default and reports the tests that notice.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from omnidrop_cli import paths
from omnidrop_cli.evaluate import benchmarks
from omnidrop_cli.media.source import bundled
from tests.commands.effects import COMMON_ELSEWHERE, Row, Run, check_complete
from tests.commands.running import Done


@dataclass(frozen=True)
class Ran:
    """An evaluation that ended: streams and exit code, rows by question and method, the names of files it left, and its drawings."""

    done: Done
    rows: list[dict[str, Any]]
    files: list[str]
    plots: list[str]


def count(ran: Ran) -> Any:
    return len(ran.rows)


def methods(ran: Ran) -> Any:
    return {row["method"] for row in ran.rows}


def answers(ran: Ran) -> Any:
    return [row["answer"] for row in ran.rows]


def tokens(ran: Ran) -> Any:
    return [row["measured"]["tokens"] for row in ran.rows]


def models(ran: Ran) -> Any:
    return [row["model"] for row in ran.rows]


def medias(ran: Ran) -> Any:
    return {row["media"] for row in ran.rows}


def error(ran: Ran) -> Any:
    return str(ran.done.error)


def stdout(ran: Ran) -> Any:
    return ran.done.out.split("\n")[0][:40]  # what follows has seconds in it


def files(ran: Ran) -> Any:
    return ran.files


def lines(ran: Ran) -> Any:
    return len(ran.done.err.splitlines())


def panels(ran: Ran) -> Any:
    return [plot.count('<g id="axes_') for plot in ran.plots]


DAILY, NANO = ("dailyomni", "--data", "data", "--model", "nano"), ("nano", "--data", "nano", "--limit", "4")

EFFECTS = (
    Row("data", ("other",), medias),
    Row("fetch", (), error, ("dailyomni", "--model", "nano")),
    Row("limit", ("1",), count),
    Row("text-first", (), answers),
    Row("timing", ("published",), answers, ("--fps", "1")),
    Row("methods", ("none",), methods),
    Row("seed", ("5",), answers, ("-m", "random@0.1")),
    Row("fps", ("1",), tokens),
    Row("max-frames", ("6",), tokens),
    Row("max-pixels", ("3136",), tokens),
    Row("max-new-tokens", ("1",), answers, (*NANO, "--text-first")),
    Row("dtype", ("bfloat16",), models),
    Row("quant-head", ("nf4",), models),
    Row("device", ("cuda:77",), error),
    Row("devices", ("cuda:77",), error),
    Row("attn", ("flash_attention_2",), error),
    Row("revision", ("main",), error),
    Row("output", ("b.jsonl",), files),
    Row("format", ("latex",), stdout),
    Row("json", (), stdout),
    Row("flips", ("none,omnidrop@0.3",), stdout),
    Row("plot", ("a.svg",), files),
    Row("plot-by", ("type",), panels, ("--plot", "a.svg")),
    Row("paper", ("omnidrop-table2",), stdout),
    Row("quiet", (), lines),
)
"""Options, and what they change. A row that is `given` no benchmark runs the two questions of DAILY."""

ELSEWHERE: Mapping[str, str] = {
    **COMMON_ELSEWHERE,
    "model": "tests/evaluate/test_evaluation.py; DAILY and NANO name nano",
    "feature-cache": "test_encoder_outputs_are_kept_on_disk_unless_refused",
    "offline": "tests/model/test_hub.py",
    "quant": "tests/model/test_load.py",
    "graph": "tests/engine/test_graph_session.py; a GPU is needed to see it from the command line",
    "verbose": "tests/commands/test_output.py",
}
"""Options whose effect cannot be seen in nano's rows, and where it is tested."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo clip as Daily-Omni would publish it, twice, and as the clip of nano's questions."""
    folder = tmp_path_factory.mktemp("benchmarks")
    clip = bundled("demo")
    assert clip is not None
    row = {"Choice": ["A. hello", "B. music", "C. garden", "D. goodbye"], "Answer": "D", "video_id": "one"}
    for name in ("data", "other"):
        (folder / name / "Videos/one").mkdir(parents=True)
        shutil.copy(clip, folder / name / "Videos/one/one_video.mp4")
        rows = [{**row, "Question": "What is said?", "Type": "audio"}, {**row, "Question": "What is shown?", "Type": "video"}]
        (folder / name / "qa.json").write_text(json.dumps(rows))
    (folder / "nano").mkdir()
    for question in benchmarks.questions(benchmarks.find("nano"), folder / "nano", 4):
        shutil.copy(clip, f"{question.media}.mp4")
    return folder


@pytest.fixture(scope="module")
def memory() -> dict[tuple[str, ...], Ran]:
    """Runs by their command line: many rows are compared with the same plain command."""
    return {}


@pytest.fixture
def run(
    omnidrop: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: dict[tuple[str, ...], Ran]
) -> Callable[..., Ran]:
    """Runs an evaluation in a new folder, with the data sets in it."""

    def evaluation(*words: str) -> Ran:
        if words not in memory:
            folder = tmp_path / str(len(memory))
            folder.mkdir()
            for name in ("data", "other", "nano"):
                (folder / name).symlink_to(data / name)
            monkeypatch.chdir(folder)
            done = omnidrop("evaluate", *words)
            rows = [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text(encoding="utf-8").splitlines()]
            plots = [path.read_text(encoding="utf-8") for path in folder.glob("*.svg")]
            memory[words] = Ran(done, sorted(rows, key=lambda row: (row["question"], row["method"])), sorted(os.listdir(folder)), plots)
        return memory[words]

    return evaluation


@pytest.mark.parametrize("row", EFFECTS, ids=lambda row: row.flag)
def test_an_option_has_its_effect(run: Callable[..., Ran], row: Row) -> None:
    given = row.given if row.given[:1] in (DAILY[:1], NANO[:1]) else (*DAILY, *row.given)
    assert row.effect(run(*given, *row.words)) != row.effect(run(*given))


def test_encoder_outputs_are_kept_on_disk_unless_refused(run: Callable[..., Ran]) -> None:
    run(*DAILY, "-o", "a.jsonl", "--no-feature-cache")
    assert not paths.features().exists()
    run(*DAILY, "-o", "a.jsonl")
    assert paths.features().exists()


def test_every_option_is_in_a_table() -> None:
    check_complete("evaluate", EFFECTS, ELSEWHERE)
