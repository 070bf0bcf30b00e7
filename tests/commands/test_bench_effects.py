"""Every option of `bench` changes what is measured or written: on a real clip and on a synthetic prompt, with nano.

`python -m tests.benchmarks.break_flags bench` forces each option to its default and reports the tests that notice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from omnidrop_cli import paths
from omnidrop_cli.bench import media as bench_media
from omnidrop_cli.config import MediaConfig
from omnidrop_cli.errors import UsageError
from tests.commands.effects import READING_ELSEWHERE, Row, Run, check_complete
from tests.commands.running import Done


@dataclass(frozen=True)
class Ran:
    """A run that ended: its streams, its report (empty where none was printed), and the files that it left."""

    done: Done
    report: dict[str, Any]
    files: list[str]


def prompt(ran: Ran) -> Any:
    return {name: ran.report["facts"][name] for name in ("tokens", "video_tokens", "audio_tokens")}


def loaded(ran: Ran) -> Any:
    return {name: ran.report["facts"][name] for name in ("model", "dtype", "quant", "quant_head")}


def runs(ran: Ran) -> Any:
    return [(group["subject"], [run["name"] for run in group["runs"]]) for group in ran.report["groups"]]


def samples(ran: Ran) -> Any:
    return ran.report["groups"][0]["runs"][0]["samples"]


def files(ran: Ran) -> Any:
    return ran.files


def out(ran: Ran) -> Any:
    return bool(ran.report)


def lines(ran: Ran) -> Any:
    return len(ran.done.err.splitlines())


def error(ran: Ran) -> Any:
    return str(ran.done.error)


QUICK = ("--model", "nano", "--methods", "none", "--repeats", "1", "--json")
CLIP, SYNTHETIC = ("prefill", "demo", *QUICK), ("prefill", "--seconds", "4", *QUICK)

EFFECTS = (
    Row("start", ("4",), prompt, CLIP),
    Row("end", ("4",), prompt, CLIP),
    Row("fps", ("1",), prompt, CLIP),
    Row("min-frames", ("30",), prompt, CLIP),
    Row("max-frames", ("8",), prompt, CLIP),
    Row("min-pixels", ("20000",), prompt, CLIP),
    Row("max-pixels", ("4000",), prompt, (*CLIP, "--min-pixels", "3136")),
    Row("audio", ("--no-audio",), prompt, CLIP),
    Row("video", ("--no-video",), prompt, CLIP),
    Row("subtitles", (str(Path(__file__).with_name("hello.srt")),), prompt, CLIP),
    Row("seconds", ("6",), prompt, SYNTHETIC),
    Row("model", ("random:3b@1layers",), loaded, SYNTHETIC),
    Row("dtype", ("bfloat16",), loaded, SYNTHETIC),
    Row("quant-head", ("nf4",), loaded, SYNTHETIC),
    Row("device", ("cuda:77",), error, SYNTHETIC),
    Row("attn", ("flash_attention_2",), error, SYNTHETIC),
    Row("methods", ("none",), runs, ("prefill", "--seconds", "4", "--model", "nano", "--repeats", "1", "--json")),
    Row("encoders", ("2",), runs, SYNTHETIC),
    Row("decode", ("2",), runs, SYNTHETIC),
    Row("repeats", ("2",), samples, SYNTHETIC),
    Row("json", (), out, SYNTHETIC[:-1]),
    Row("output", ("a.json",), files, SYNTHETIC),
    Row("plot", ("a.svg",), files, SYNTHETIC),
    Row("quiet", (), lines, (*SYNTHETIC, "--verbose")),
    Row("verbose", (), lines, SYNTHETIC),
)

ELSEWHERE: Mapping[str, str] = {
    **READING_ELSEWHERE,
    "offline": "test_offline_reaches_what_fetches",
    "feature-cache": "test_encoder_outputs_are_kept_on_disk_unless_refused",
}
"""Options whose effect cannot be seen in nano's report, and where it is tested."""


@pytest.fixture(scope="module")
def memory() -> dict[tuple[str, ...], Ran]:
    """Runs by their words: many rows are compared with the same plain one."""
    return {}


def _bench(omnidrop: Run, memory: dict[tuple[str, ...], Ran], words: tuple[str, ...]) -> Ran:
    if words not in memory:
        before = {*os.listdir()}
        done = omnidrop("bench", *words)
        memory[words] = Ran(done, json.loads(done.out) if done.out.startswith("{") else {}, sorted({*os.listdir()} - before))
    return memory[words]


@pytest.mark.parametrize("row", EFFECTS, ids=lambda row: row.flag)
def test_an_option_has_its_effect(omnidrop: Run, memory: dict[tuple[str, ...], Ran], row: Row) -> None:
    assert row.effect(_bench(omnidrop, memory, row.given)) != row.effect(_bench(omnidrop, memory, (*row.given, *row.words)))


def test_media_decodes_as_the_options_say(omnidrop: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the processes make of these options is in tests/bench/test_media.py."""
    asked: list[Any] = []

    def measured(clips: list[Path], part: MediaConfig, **options: Any) -> None:
        asked.extend((part, options["repeats"]))
        raise UsageError("not measured here")

    monkeypatch.setattr(bench_media, "bench_media", measured)
    omnidrop("bench", "media", "a.mp4", "--start", "1", "--end", "9", "--fps", "1", "--min-frames", "6", "--max-frames", "8",
             "--min-pixels", "3136", "--max-pixels", "6272", "--no-audio", "--subtitles", "en", "--dedup-threshold", "2",
             "--repeats", "5")  # fmt: skip
    assert asked == [MediaConfig(1.0, 9.0, 1.0, 6, 8, 3136, 6272, use_audio=False, subtitles="en", dedup_threshold=2.0), 5]


def test_encoder_outputs_are_kept_on_disk_unless_refused(omnidrop: Run) -> None:
    assert omnidrop("bench", *CLIP, "--no-feature-cache").error is None
    assert not paths.features().exists()
    assert omnidrop("bench", *CLIP).error is None
    assert paths.features().exists()


def test_offline_reaches_what_fetches(omnidrop: Run) -> None:
    done = omnidrop("bench", "prefill", "https://example.org/clip.mp4", "--model", "nano", "--offline")
    assert "offline" in str(done.error)


def test_every_option_is_in_a_table() -> None:
    check_complete("bench", EFFECTS, ELSEWHERE)
