"""Clips from addresses, on a server on the loopback: whole or not at all, resumed, and every refusal with a hint."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest

from omnidrop_cli import paths
from omnidrop_cli.config import MediaConfig
from omnidrop_cli.errors import FetchError
from omnidrop_cli.events import ProgressCallback
from omnidrop_cli.media import download
from omnidrop_cli.media.clip import decode_media
from omnidrop_cli.media.download_cache import DownloadCache
from omnidrop_cli.media.source import fetch
from omnidrop_cli.media.ytdlp import explained
from tests.clips import Clips, padded_mp4
from tests.media.downloads import Impatient, get, interrupt, left
from tests.media.http_server import File, Server

# ---------------------------------------------------------------- downloads


@pytest.mark.parametrize("path", ["/clip.mp4", "/watch?v=7", "/sound.mp3", "/moving.gif"])
def test_download(server: Server, cache: DownloadCache, path: str) -> None:
    found = get(server, cache, path)
    assert found.path.read_bytes() == server.files[path].content
    assert decode_media(found.path, MediaConfig(max_frames=4)).duration_s > 1
    assert left(cache) == [found.path.name]


def test_the_cache_is_the_users(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert fetch(server.url("/sound.mp3")).path.parent == paths.downloads() == tmp_path / "cache" / "omnidrop" / "media"


def test_offline(server: Server, cache: DownloadCache) -> None:
    with pytest.raises(FetchError, match="not been downloaded") as caught:
        get(server, cache, offline=True)
    assert caught.value.hint
    assert server.hits == []
    first = get(server, cache)
    server.hits.clear()
    assert get(server, cache, offline=True).path == first.path
    assert server.hits == []


@pytest.mark.parametrize(
    ("path", "words", "hint"),
    [
        ("/gone.mp4", "404", "address"),
        ("/403", "403", "`cookies_from_browser="),
        ("/page", "Unsupported URL", "download the clip yourself"),
        ("/empty.mp4", "no clip|data", "download"),
        ("/error.mp4", "a page of text instead of a clip", "login"),
        ("/noise.mp4", "without pictures and sound", "download the clip yourself"),
    ],
)
def test_refusals_leave_nothing(
    server: Server, cache: DownloadCache, path: str, words: str, hint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FetchError, match=words) as caught:
        get(server, cache, path)
    assert hint in (caught.value.hint or "")
    assert "\n" not in caught.value.message
    assert not any(word in caught.value.message for word in ("ERROR", "None", "none:"))
    assert [*cache.folder.iterdir()] == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("ERROR: [generic] None: Unable to download: HTTP Error 404 (caused by <HTTPError 404>)", "h: Unable to download: HTTP Error 404"),
        ("\x1b[0;31mERROR:\x1b[0m [youtube] abc: Video unavailable; please report this issue on https://x", "h: abc: Video unavailable"),
        ("none: no video formats found!", "h: no video formats found!"),
    ],
)
def test_what_yt_dlp_says_becomes_one_clean_line(said: str, line: str) -> None:
    assert explained("h", said).message == line


def test_nobody_there(cache: DownloadCache) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(FetchError) as caught:
        fetch(f"http://127.0.0.1:{port}/clip.mp4", cache=cache)
    assert "network" in (caught.value.hint or "")


def test_not_an_address(cache: DownloadCache) -> None:
    with pytest.raises(FetchError, match="not a valid address"):
        fetch("http://[oops", cache=cache)


def test_too_large(server: Server, cache: DownloadCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 1000)
    with pytest.raises(FetchError, match="larger than"):
        get(server, cache)
    assert left(cache) == []


def test_unwritable_cache(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FetchError, match="cannot be kept") as caught:
        get(server, DownloadCache(tmp_path / "file" / "media"))
    assert "XDG_CACHE_HOME" in (caught.value.hint or "")


def test_progress(server: Server, cache: DownloadCache) -> None:
    class Listening(ProgressCallback):
        last: tuple[float, float | None] = (0, None)
        details: list[str] = []  # noqa: RUF012

        def advance(self, done: float, total: float | None) -> None:
            self.last = (done, total)

        def detail(self, text: str) -> None:
            self.details.append(text)

    progress = Listening()
    get(server, cache, progress=progress)
    size = len(server.files["/clip.mp4"].content)
    assert progress.last == (size, size)
    assert progress.details[-1].startswith(f"127.0.0.1: {size / 1e6:.1f} of {size / 1e6:.1f} MB")
    assert any("MB/s" in detail for detail in progress.details)


class Said(ProgressCallback):
    def __init__(self) -> None:
        self.calls: list[object] = []

    def advance(self, done: float, total: float | None) -> None:
        self.calls.append((done, total))

    def detail(self, text: str) -> None:
        self.calls.append(text)


@pytest.mark.parametrize(
    ("state", "calls"),
    [
        ({}, [(0, None), "h: 0.0 MB"]),
        ({"downloaded_bytes": 1_500_000}, [(1_500_000, None), "h: 1.5 MB"]),
        ({"downloaded_bytes": 1, "total_bytes": 2_000_000_000}, [(1, 2_000_000_000), "h: 0.0 of 2000.0 MB"]),
        ({"downloaded_bytes": 5e5, "total_bytes_estimate": 4e9, "speed": 25e5}, [(5e5, 4e9), "h: 0.5 of 4000.0 MB, 2.5 MB/s"]),
        ({"downloaded_bytes": 2_000_000_000, "eta": 7}, [(2_000_000_000, None), "h: 2000.0 MB, 7 s left"]),
        ({"downloaded_bytes": 2_000_000_001}, None),
        ({"downloaded_bytes": 1, "total_bytes": 2_000_000_001}, None),
    ],
)
def test_what_is_said_while_a_clip_arrives(state: dict[str, float], calls: list[object] | None) -> None:
    said = Said()
    if calls is None:
        with pytest.raises(FetchError, match="larger than 2 GB"):
            download._progress(state, "h", said)
    else:
        download._progress(state, "h", said)
        assert said.calls == calls


def test_the_largest_finished_file_is_the_clip(clips: Clips, tmp_path: Path) -> None:
    content = clips["wav"].read_bytes()
    for name, size in {
        "clip-a.wav": 40_000,
        "clip-b.wav": 50_000,
        "clip-c.wav.part": 60_000,
        "clip-d.ytdl": 60_000,
        "other.wav": 60_000,
    }.items():
        (tmp_path / name).write_bytes(content[:size])
    (tmp_path / "clip-e.wav").touch()
    assert download._clip_in(tmp_path, "h").name == "clip-b.wav"
    for name in ("clip-a.wav", "clip-b.wav"):
        (tmp_path / name).unlink()
    with pytest.raises(FetchError, match="h sent no clip"):
        download._clip_in(tmp_path, "h")


# ---------------------------------------------------------------- resuming


def test_an_interrupted_download_goes_on_where_it_stopped(server: Server, cache: DownloadCache, big: bytes) -> None:
    interrupt(server, cache)
    server.hits.clear()
    found = get(server, cache, "/big.mp4")
    assert found.path.read_bytes() == big
    assert any(asked is not None and int(asked[6:].split("-")[0]) >= 60_000 for _, _, asked in server.hits)
    assert left(cache) == [found.path.name]


@pytest.mark.parametrize("etag", [True, False])
def test_halves_of_two_versions_make_no_clip(etag: bool, server: Server, cache: DownloadCache, big: bytes, clips: Clips) -> None:
    server.files["/big.mp4"].etag = etag
    interrupt(server, cache)
    other = padded_mp4(clips["tone_video"], 1)
    server.files["/big.mp4"] = File("video/mp4", other, etag=etag)
    assert get(server, cache, "/big.mp4").path.read_bytes() == other


def test_ctrl_c_keeps_what_has_arrived(server: Server, cache: DownloadCache, big: bytes) -> None:
    with pytest.raises(KeyboardInterrupt):
        get(server, cache, "/big.mp4", progress=Impatient())
    assert len(left(cache)) == 1
    assert get(server, cache, "/big.mp4").path.read_bytes() == big
    assert len(left(cache)) == 1


KILLED = """
import sys
from pathlib import Path
from omnidrop_cli.media.download_cache import DownloadCache
from omnidrop_cli.media.source import fetch
print(fetch(sys.argv[1], cache=DownloadCache(Path(sys.argv[2]))).path)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_download_is_resumed_and_two_processes_share_one(server: Server, cache: DownloadCache, big: bytes) -> None:
    server.seconds_per_megabyte = 8.0
    command = [sys.executable, "-c", KILLED, server.url("/big.mp4"), str(cache.folder)]
    with subprocess.Popen(command) as process:
        while not [*cache.folder.glob(".part-*/*.part")] or next(cache.folder.glob(".part-*/*.part")).stat().st_size < 100_000:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    server.seconds_per_megabyte = 1.0
    server.hits.clear()
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    names = {process.communicate(timeout=60)[0] for process in both}
    assert len(names) == 1
    assert Path(names.pop().strip()).read_bytes() == big
    assert len(left(cache)) == 1
    ranges = [asked for method, path, asked in server.hits if method == "GET" and path == "/big.mp4"]
    assert any(asked and not asked.startswith("bytes=0-") for asked in ranges)


@pytest.mark.parametrize(
    ("info", "section", "length", "alone"),
    [
        ({"ext": "mp4", "duration": 121}, (0.0, 60.0), None, True),
        ({"ext": "mp4", "duration": 120}, (0.0, 5.0), None, False),  # two minutes: nothing to save
        ({"ext": "mp4", "duration": 200}, (50.0, 150.0), None, True),  # half of it
        ({"ext": "mp4", "duration": 200}, (50.0, 150.5), None, False),
        ({"ext": "webm", "duration": 2000}, (0.0, 5.0), None, False),  # cannot be cut exactly
        ({"requested_formats": [{"ext": "mp4"}, {"ext": "m4a"}], "duration": 2000}, (0.0, 5.0), None, True),
        ({"requested_formats": [{"ext": "mp4"}, {"ext": "webm"}], "duration": 2000}, (0.0, 5.0), None, False),
        ({"ext": "mov"}, (0.0, 5.0), 30_000_001, True),  # of unknown length, by its size
        ({"ext": "mov"}, (0.0, 5.0), 30_000_000, False),
        ({"ext": "mov"}, (0.0, 5.0), None, False),
        ({"ext": "mov", "filesize": 30_000_001}, (0.0, 5.0), 5, True),
        ({"requested_formats": [{"ext": "mp4", "filesize_approx": 2e7}, {"ext": "m4a", "filesize": 2e7}]}, (0.0, 5.0), None, True),
    ],
)
def test_a_part_is_fetched_alone_where_that_saves_much(
    info: dict[str, object], section: tuple[float, float], length: int | None, alone: bool
) -> None:
    assert download._worth_a_section(info, section, length) is alone


def test_a_part_that_is_too_long_or_no_clip_is_not_used(clips: Clips, tmp_path: Path) -> None:
    (tmp_path / "page.mp4").write_text("<html>")
    assert not download._is_about(tmp_path / "page.mp4", 100.0)
    with av.open(str(clips["tone_video"])) as container:
        seconds = container.duration / 1e6
    assert download._is_about(clips["tone_video"], seconds - 0.9)
    assert not download._is_about(clips["tone_video"], seconds - 1.1)
