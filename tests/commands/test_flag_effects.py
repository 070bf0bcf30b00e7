"""Every option of `ask`, and some of `batch`, change what runs: from the command line to the effect, on a real clip with nano.

A row of EFFECTS names flags and what differs from the same command without the last of them. What is compared is never the request that the
JSON repeats, but what became of it: frames, tokens, kept tokens, the model that was loaded, the answer, files on the disk, the streams.
`python -m tests.benchmarks.break_flags` forces each option to its default and reports the tests that notice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from omnidrop_cli import paths
from omnidrop_cli.cli import COMMANDS
from omnidrop_cli.commands._options import grouped
from omnidrop_cli.options import Option
from tests.commands.running import Done

Run = Callable[..., Done]
Effect = Callable[[dict[str, Any]], Any]


def frames(report: dict[str, Any]) -> Any:
    return report["media"]["frames"]


def size(report: dict[str, Any]) -> Any:
    return report["media"]["frame_size"]


def prompt(report: dict[str, Any]) -> Any:
    return report["tokens"]["prompt"]


def leaving(report: dict[str, Any]) -> Any:
    return report["tokens"]["leaving"]


def kept(report: dict[str, Any]) -> Any:
    return report["kept"]


def answer(report: dict[str, Any]) -> Any:
    return report["answer"]


def generated(report: dict[str, Any]) -> Any:
    return report["answer_token_ids"]


def loaded(report: dict[str, Any]) -> Any:
    return {name: report["model"][name] for name in ("name", "dtype", "quant", "device")}


@dataclass(frozen=True)
class Row:
    """`flag` with its `value`, next to the flags `given` on both sides, changes `effect`."""

    flag: str
    value: tuple[str, ...]
    effect: Effect
    given: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The flag as it is typed."""
        return self.value if self.value == (f"--no-{self.flag}",) else (f"--{self.flag}", *self.value)


EFFECTS = (
    Row("method", ("random",), kept, ("--kept",)),
    Row("keep", ("0.6",), leaving),
    Row("preset", ("paper-20",), leaving),
    Row("option", ("p_init=0.05",), leaving),
    Row("seed", ("5",), kept, ("--kept", "--method", "random")),
    Row("start", ("4",), prompt),
    Row("end", ("4",), prompt),
    Row("fps", ("1",), frames),
    Row("min-frames", ("30",), frames),
    Row("max-frames", ("8",), frames),
    Row("min-pixels", ("20000",), size),
    Row("max-pixels", ("4000",), size, ("--min-pixels", "3136")),
    Row("audio", ("--no-audio",), prompt),
    Row("video", ("--no-video",), prompt),
    Row("system", ("Answer in one word, please.",), prompt),
    Row("dtype", ("bfloat16",), loaded),
    Row("max-new-tokens", ("2",), generated),
    Row("temperature", ("3",), generated, ("--seed", "3")),
    Row("top-p", ("0.05",), generated, ("--seed", "3", "--temperature", "3")),
    Row("repetition-penalty", ("5",), generated, ("--max-new-tokens", "40", "--system", "music music music")),
    Row("stop", ("music",), answer),
    Row("choices", ("red, blue",), answer),
    Row("kept", (), lambda report: "kept" in report),
    Row("compare", (), lambda report: report["kind"]),
    Row("repeat", ("2",), lambda report: len(report["repeats_timing_s"]["pruned"]), ("--compare",)),
)

ELSEWHERE: Mapping[str, str] = {
    "question": "tests/commands/test_ask.py: test_q_is_the_question",
    "dedup-threshold": "tests/engine/test_frame_dedup.py: test_tolerance_reaches_the_encoder",
    "refresh": "tests/media/test_source.py",
    "cookies": "tests/media/test_source.py",
    "cookies-from-browser": "tests/media/test_source.py",
    "model": "tests/test_public_api.py; every test here names nano",
    "quant": "tests/model/test_load.py",
    "device": "tests/model/test_load.py",
    "attn": "tests/model/test_load.py",
    "revision": "tests/model/test_hub.py",
    "graph": "tests/engine/test_graph_session.py; a GPU is needed to see it from the command line",
    "stream": "tests/commands/test_output.py",
    "table": "tests/commands/test_ask.py",
    "history": "tests/commands/test_history.py: test_nothing_is_kept_unless_asked_for",
    "json": "every test here reads it",
    "output": "tests/commands/test_ask.py: test_output_goes_into_a_file",
    "quiet": "tests/commands/test_ask.py: test_quiet_says_nothing",
    "verbose": "tests/commands/test_ask.py",
    "no-color": "tests/commands/test_output.py",
    "debug": "tests/commands/test_exit.py",
    "profile": "tests/test_settings.py",
}
"""Options whose effect cannot be seen in nano's JSON, and where it is tested."""


@cache
def _options() -> dict[str, Option]:
    command = next(run for run, _ in COMMANDS if run.__name__ == "ask")
    return {one.flag: one for one in grouped(command).options.values()}  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def memory() -> dict[tuple[str, ...], dict[str, Any]]:
    """Reports by their command line: many rows are compared with the same plain command."""
    return {}


def _ask(omnidrop: Run, memory: dict[tuple[str, ...], dict[str, Any]], flags: Sequence[str]) -> dict[str, Any]:
    words = ("ask", "demo", "What is said?", "--model", "nano", "--json", *flags)
    if words not in memory:
        done = omnidrop(*words)
        assert done.error is None, done.error
        memory[words] = json.loads(done.out)
    return memory[words]


@pytest.mark.parametrize("row", EFFECTS, ids=lambda row: row.flag)
def test_an_option_has_its_effect(omnidrop: Run, memory: dict[tuple[str, ...], dict[str, Any]], row: Row) -> None:
    assert row.effect(_ask(omnidrop, memory, (*row.given, *row.words))) != row.effect(_ask(omnidrop, memory, row.given))


BATCH = [
    row for row in EFFECTS if row.flag in ("start", "end", "fps", "max-frames", "video", "system", "keep", "temperature", "max-new-tokens")
]


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, ...], dict[str, Any]]:
    """Rows of answers by their command line."""
    return {}


@pytest.mark.parametrize("row", BATCH, ids=lambda row: row.flag)
def test_an_option_has_its_effect_in_a_batch(omnidrop: Run, rows: dict[tuple[str, ...], dict[str, Any]], row: Row) -> None:
    def answered(flags: tuple[str, ...]) -> dict[str, Any]:
        if flags not in rows:
            done = omnidrop("batch", "demo", "-q", "What is said?", "-o", "a.jsonl", "--model", "nano", "--quiet", *flags)
            assert done.code == 0, done.err
            rows[flags] = json.loads(Path("a.jsonl").read_text(encoding="utf-8").splitlines()[-1])
        return rows[flags]

    assert row.effect(answered((*row.given, *row.words))) != row.effect(answered(row.given))


def test_encoder_outputs_are_kept_on_disk_unless_refused(omnidrop: Run) -> None:
    words = ("ask", "demo", "What is said?", "--model", "nano", "--json")
    assert omnidrop(*words, "--no-feature-cache").error is None
    assert not _files(paths.features())
    assert omnidrop(*words).error is None
    assert _files(paths.features())


def test_offline_reaches_what_fetches(omnidrop: Run) -> None:
    done = omnidrop("ask", "https://example.org/clip.mp4", "what?", "--model", "nano", "--offline")
    assert "offline" in str(done.error)


def test_every_option_is_in_a_table() -> None:
    tested = {row.flag for row in EFFECTS} | {*ELSEWHERE} | {"feature-cache", "offline"}
    assert tested == {*_options()}
    for where in ELSEWHERE.values():
        for name in (word.rstrip(":;") for word in where.split() if word.startswith("tests/")):
            assert (Path(__file__).parents[2] / name).exists(), name


def _files(folder: Path) -> list[str]:
    return [name for _, _, names in os.walk(folder) for name in names]
