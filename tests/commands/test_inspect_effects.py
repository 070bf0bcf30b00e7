"""Every option of `inspect` changes what it shows of a real clip.

`python -m tests.benchmarks.break_flags inspect` forces each option to its default and reports the tests that notice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.commands.effects import COMMON_ELSEWHERE, Row, Run, check_complete, out
from tests.commands.running import Done


def frames(done: Done) -> Any:
    return json.loads(done.out)["frames"]


def size(done: Done) -> Any:
    return json.loads(done.out)["frame_size"]


def tokens(done: Done) -> Any:
    return json.loads(done.out)["tokens"]


def lines(done: Done) -> Any:
    return len(done.err.splitlines())


JSON = ("--json",)

EFFECTS = (
    Row("start", ("4",), tokens, JSON),
    Row("end", ("4",), tokens, JSON),
    Row("fps", ("1",), frames, JSON),
    Row("min-frames", ("30",), frames, JSON),
    Row("max-frames", ("8",), frames, JSON),
    Row("min-pixels", ("200000",), size, JSON),
    Row("max-pixels", ("4000",), size, (*JSON, "--min-pixels", "3136")),
    Row("audio", ("--no-audio",), tokens, JSON),
    Row("video", ("--no-video",), tokens, JSON),
    Row("subtitles", (str(Path(__file__).with_name("hello.srt")),), tokens, JSON),
    Row("model", ("7b",), size, JSON),
    Row("json", (), out),
    Row("quiet", (), lines, ("--no-audio", "--subtitles", "auto")),
    Row("verbose", (), lines),
)

ELSEWHERE: Mapping[str, str] = {
    **COMMON_ELSEWHERE,
    "offline": "tests/commands/test_lists.py: test_inspect_of_an_address_offline",
    "refresh": "tests/media/test_download_cache.py",
    "cookies": "tests/media/test_address.py",
    "cookies-from-browser": "tests/media/test_address.py",
    "dedup-threshold": "no effect here: it is taken so that the flags of ask need no change",
}
"""Options whose effect is tested elsewhere."""


@pytest.mark.parametrize("row", EFFECTS, ids=lambda row: row.flag)
def test_an_option_has_its_effect(omnidrop: Run, row: Row) -> None:
    words = ("inspect", "demo", *(() if row.flag == "model" else ("--model", "7b")), *row.given)
    with_it, without = omnidrop(*words, *row.words), omnidrop(*words)
    assert with_it.error is without.error is None
    assert row.effect(with_it) != row.effect(without)


def test_every_option_is_in_a_table() -> None:
    check_complete("inspect", EFFECTS, ELSEWHERE)
