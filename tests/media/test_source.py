"""Paths, pipes, devices and the names of bundled clips."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from omnidrop_cli.errors import FetchError, MediaError
from omnidrop_cli.media import source
from omnidrop_cli.media.container import find_source
from omnidrop_cli.media.source import Fetched, fetch, is_url


@pytest.mark.parametrize(
    ("media", "answer"), [("http://a/b", True), ("HTTPS://a/b", True), ("clip.mp4", False), ("./http:/x", False), ("", False)]
)
def test_is_url(media: str, answer: bool) -> None:
    assert is_url(media) is answer


def test_a_path_is_itself() -> None:
    assert fetch("some/clip.mp4") == Fetched(Path("some/clip.mp4"), offset_s=0.0)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b.mp4"])
def test_what_can_be_no_name_is_no_clip(name: str) -> None:
    with pytest.raises(MediaError, match="cannot be read"):
        find_source(fetch(name).path)


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes or devices")
def test_a_pipe_or_device_is_one_clear_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    reader, writer = os.pipe()  # what a shell makes of <(command)
    (tmp_path / "endless.mp4").symlink_to("/dev/zero")
    for path, kind in ((tmp_path / "pipe.mp4", "a pipe"), (f"/dev/fd/{reader}", "a pipe"), (tmp_path / "endless.mp4", "a device")):
        with pytest.raises(MediaError, match=f"is {kind}, not a file") as caught:
            fetch(str(path))
        assert "save the clip to a file" in (caught.value.hint or "")
    os.close(reader)
    os.close(writer)


def test_bundled_clips_have_names_that_files_go_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert fetch("demo").path.is_file()
    assert fetch("demo2") != fetch("demo")
    (tmp_path / "demo").write_bytes(b"mine")
    assert fetch("demo").path == Path("demo")
    assert fetch("../demo2").path == Path("../demo2")


def test_an_address_with_bytes_that_are_no_text_is_none() -> None:
    with pytest.raises(FetchError, match="not a valid address"):
        fetch("http://127.0.0.1:9/caf\udce9.mp4")


VERSION = {"etag": "a", "length": "9"}


@pytest.mark.parametrize(
    ("before", "now", "kept"),
    [
        (VERSION, VERSION, True),
        (VERSION, {"length": "9", "etag": "a"}, True),
        (VERSION, {"etag": "b", "length": "9"}, False),
        ({"last_modified": "x"}, {"last_modified": "x"}, True),
        ({"length": "9"}, {"length": "9"}, False),  # may be another file of that length
        ({}, {}, False),
        (None, None, True),  # a site of videos
        (VERSION, None, False),
        ("", VERSION, False),  # no note
    ],
)
def test_halves_of_another_version_are_forgotten(before: object, now: dict[str, str] | None, kept: bool, tmp_path: Path) -> None:
    if before != "":
        source._forget_other_versions(tmp_path, before)  # type: ignore[arg-type]
    names = ["clip-a.part", "section.mp4", "other"]
    for name in names:
        (tmp_path / name).touch()
    source._forget_other_versions(tmp_path, now)
    assert [name for name in names if (tmp_path / name).exists()] == (names if kept else ["other"])
    assert (tmp_path / "version.json").is_file()


@pytest.mark.parametrize(
    ("asked", "fetched"),
    [(None, None), ((3.0, None), None), ((3.2, 9.1), (3.0, 10.0)), ((3.0, 9.0), (3.0, 9.0)), ((0.0, 0.5), (0.0, 1.0))],
)
def test_parts_are_fetched_in_whole_seconds(asked: tuple[float, float | None] | None, fetched: tuple[float, float] | None) -> None:
    assert source._whole_seconds(asked) == fetched
