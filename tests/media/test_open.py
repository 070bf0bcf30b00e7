"""Several clips of one request are found first, then decoded in order, with their names in what is said of them."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omnidrop_cli.config import MediaConfig, Request
from omnidrop_cli.errors import MediaError, UsageError
from omnidrop_cli.events import ProgressCallback
from omnidrop_cli.in_use import is_in_use
from omnidrop_cli.media import open as module
from omnidrop_cli.media.open import open_clips
from omnidrop_cli.media.source import Fetched
from omnidrop_cli.outputs import Clip, FrameBounds, SourceFacts

BOUNDS = FrameBounds(784, 3136)


class Said(ProgressCallback):
    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def stage(self, name: str, detail: str = "") -> None:
        self.calls.append((name, detail))

    def warn(self, message: str) -> None:
        self.calls.append(("warn", message))


def decoded(source: Fetched, options: MediaConfig, progress: ProgressCallback) -> Clip:
    assert options.min_pixels == 784
    time.sleep(0.02)
    facts = SourceFacts(str(source.path), "mp4", 9, 1.0, None, None)
    used = ("in use",) if is_in_use(source.path) else ()
    return Clip(facts, None, None, None, None, 0.0, 1.0, (f"odd {source.path.stem}", *used))


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = [tmp_path / name for name in ("a.mp4", "b.mp4")]
    for path in paths:
        path.write_bytes(b"clip")
    return [str(path) for path in paths]


def test_one_clip(files: list[str]) -> None:
    said, seconds = Said(), {"fetch": 5.0}
    (clip,) = open_clips(Request(files[0], "?"), BOUNDS, said, seconds, decoded)
    assert clip.warnings == ("odd a",)
    assert said.calls == [("fetch", files[0]), ("decode", ""), ("warn", "odd a")]
    assert 5.0 < seconds["fetch"] < 35
    assert 0.02 <= seconds["decode"] < 30


def test_several_clips(files: list[str]) -> None:
    said = Said()
    clips = open_clips(Request(files[0], "?", more=(files[1],)), BOUNDS, said, {}, decoded)
    assert [clip.warnings for clip in clips] == [("a.mp4: odd a",), ("b.mp4: odd b",)]
    assert said.calls == [
        ("fetch", files[0]), ("fetch", files[1]), ("decode", files[0]), ("decode", files[1]),
        ("warn", "a.mp4: odd a"), ("warn", "b.mp4: odd b"),
    ]  # fmt: skip


def test_a_missing_file_is_found_before_anything_is_decoded(files: list[str]) -> None:
    said = Said()
    with pytest.raises(MediaError, match="no such file"):
        open_clips(Request(files[0], "?", more=(f"{files[1]}x",)), BOUNDS, said, {}, decoded)
    assert [name for name, _ in said.calls] == ["fetch", "fetch"]


def test_a_copy_in_the_cache_is_in_use_while_it_is_decoded(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for fetched_at, used in ((None, False), ("2026-01-01T00:00:00+00:00", True)):
        monkeypatch.setattr(module, "fetch", lambda media, *_, at=fetched_at, **__: Fetched(Path(media), fetched_at=at))
        (clip,) = open_clips(Request(files[0], "?"), BOUNDS, Said(), {}, decoded)
        assert ("in use" in clip.warnings) == used


@pytest.mark.parametrize(("wanted", "refused"), [(None, False), ("auto", False), ("en", False), ("talk.srt", True)])
def test_one_file_of_subtitles_is_not_that_of_several_clips(files: list[str], wanted: str | None, refused: bool) -> None:
    request = Request(files[0], "?", media_options=MediaConfig(subtitles=wanted), more=(files[1],))
    if refused:
        with pytest.raises(UsageError, match="cannot be that of several clips"):
            open_clips(request, BOUNDS, Said(), {}, decoded)
    else:
        assert len(open_clips(request, BOUNDS, Said(), {}, decoded)) == 2
    assert len(open_clips(replace(request, more=()), BOUNDS, Said(), {}, decoded)) == 1


@pytest.mark.parametrize(("offset_s", "end_s", "expected"), [(0.0, 9.0, (3.0, 9.0)), (2.0, 9.0, (1.0, 7.0)), (2.0, None, (1.0, None))])
def test_a_part_by_the_clock_of_its_copy(offset_s: float, end_s: float | None, expected: Any) -> None:
    part = module.in_part(MediaConfig(start_s=3.0, end_s=end_s), offset_s)
    assert (part.start_s, part.end_s) == expected
