"""Clips from addresses, on a server on the loopback: whole or not at all, resumed, checked, dated, and every refusal with a hint."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnidrop_cli import paths
from omnidrop_cli.config import FetchConfig, MediaConfig, Request
from omnidrop_cli.errors import FetchError, MediaError, UsageError
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.media import address, download
from omnidrop_cli.media.clip import decode_media
from omnidrop_cli.media.download_cache import DownloadCache, Origin
from omnidrop_cli.media.open import open_clip
from omnidrop_cli.media.source import Fetched, fetch, is_url
from omnidrop_cli.media.ytdlp import explained
from omnidrop_cli.outputs import FrameBounds
from tests.clips import Clips, frame_index, onsets, padded_mp4, tone_video
from tests.media.http_server import File, Server


@pytest.fixture
def server(clips: Clips) -> Iterator[Server]:
    server = Server()
    server.files = {
        "/clip.mp4": File("video/mp4", clips["tone_video"].read_bytes()),
        "/watch?v=7": File("video/mp4", clips["tone_video"].read_bytes()),
        "/sound.mp3": File("audio/mpeg", clips["mp3"].read_bytes()),
        "/moving.gif": File("image/gif", clips["gif"].read_bytes()),
        "/page": File("text/html", b"<html><title>A page</title><p>No clip here.</p></html>"),
        "/empty.mp4": File("video/mp4", b""),
        "/error.mp4": File("video/mp4", b"<!DOCTYPE html><html><title>Sign in</title>" + b"<p>please</p>" * 500),
        "/noise.mp4": File("video/mp4", bytes(range(256)) * 40),
    }
    yield server
    server.close()


@pytest.fixture
def cache(tmp_path: Path) -> DownloadCache:
    return DownloadCache(tmp_path / "media")


def get(server: Server, cache: DownloadCache, path: str = "/clip.mp4", config: FetchConfig = FetchConfig(), **more: object) -> Fetched:
    return fetch(server.url(path), config, cache=cache, **more)  # type: ignore[arg-type]


def left(cache: DownloadCache) -> list[str]:
    """Names in the cache's folder, notes of copies left out."""
    return sorted(path.name for path in cache.folder.iterdir() if path.suffix != ".json")


def age(cache: DownloadCache, seconds: float) -> None:
    """Make every copy older."""
    for copy in [*cache.copies()]:
        then = time.time() - seconds
        cache.note(Origin(copy.origin.url, copy.origin.section, then, then, copy.origin.validators))
        os.utime(copy.path.with_suffix(".json"), (then, then))


# ---------------------------------------------------------------- paths


@pytest.mark.parametrize(
    ("media", "answer"), [("http://a/b", True), ("HTTPS://a/b", True), ("clip.mp4", False), ("./http:/x", False), ("", False)]
)
def test_is_url(media: str, answer: bool) -> None:
    assert is_url(media) is answer


def test_a_path_is_itself() -> None:
    assert fetch("some/clip.mp4") == Fetched(Path("some/clip.mp4"))


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


# ---------------------------------------------------------------- resuming


class Impatient(ProgressCallback):
    def advance(self, done: float, total: float | None) -> None:
        if done > 10_000:
            raise KeyboardInterrupt


@pytest.fixture
def big(server: Server, clips: Clips) -> bytes:
    content = padded_mp4(clips["tone_video"], 0)
    server.files["/big.mp4"] = File("video/mp4", content)
    return content


def interrupt(server: Server, cache: DownloadCache) -> None:
    """A download of /big.mp4 that stops in the middle."""
    server.break_after = 60_000  # yt-dlp tries four times
    with pytest.raises(FetchError) as caught:
        get(server, cache, "/big.mp4")
    assert "what has arrived is kept" in (caught.value.hint or "")
    server.break_after = None
    assert len(left(cache)) == 1


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


# ---------------------------------------------------------------- checking


def test_a_fresh_copy_is_used_and_an_older_one_checked(server: Server, cache: DownloadCache) -> None:
    first = get(server, cache)
    server.hits.clear()
    assert get(server, cache) == first
    assert server.hits == []
    age(cache, 3 * 86400)
    again = get(server, cache)
    assert again.path == first.path
    assert again.warnings == ()
    assert [method for method, _, _ in server.hits] == ["HEAD"]
    server.hits.clear()
    get(server, cache)
    assert server.hits == [], "the check is remembered"


@pytest.mark.parametrize("etag", [True, False])
def test_a_changed_file_is_fetched_again(etag: bool, server: Server, cache: DownloadCache, clips: Clips) -> None:
    server.files["/clip.mp4"].etag = etag
    get(server, cache)
    server.files["/clip.mp4"] = File("video/mp4", clips["landscape"].read_bytes(), etag=etag)
    age(cache, 100)
    assert get(server, cache).path.read_bytes() == clips["landscape"].read_bytes()
    assert len(left(cache)) == 1


def test_refresh_fetches_in_any_case(server: Server, cache: DownloadCache) -> None:
    get(server, cache)
    before = server.bodies("/clip.mp4")
    get(server, cache, config=FetchConfig(refresh=True))
    assert server.bodies("/clip.mp4") > before
    assert len(left(cache)) == 1


def test_a_copy_that_cannot_be_checked_is_dated(server: Server, cache: DownloadCache) -> None:
    first = get(server, cache)
    age(cache, 3 * 86400 + 100)
    server.close()
    found = get(server, cache)
    assert found.path == first.path
    assert found.warnings == (f"the copy of {server.url('/clip.mp4')} is 3 days old; `refresh` fetches it again",)
    assert get(server, cache, offline=True).warnings == found.warnings
    server.__init__()  # type: ignore[misc]  # for the fixture's end


@pytest.mark.parametrize("trouble", ["heads refused", "gone"])
def test_an_address_that_no_longer_answers_is_no_reason_to_lose_the_copy(trouble: str, server: Server, cache: DownloadCache) -> None:
    first = get(server, cache)
    age(cache, 90_000)
    if trouble == "gone":
        del server.files["/clip.mp4"]
    server.refuse_heads = trouble == "heads refused"
    found = get(server, cache)
    assert found.path == first.path
    assert "1 day old" in found.warnings[0]


def test_the_report_says_when_the_copy_was_fetched(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    request = Request(server.url("/clip.mp4"), "?", media_options=MediaConfig(max_frames=4))
    clip = open_clip(request, FrameBounds(3136, 50176), SILENT, {})
    assert clip.source.fetched_at is not None
    assert clip.source.fetched_at.startswith(time.strftime("%Y-%m-%dT%H", time.gmtime()))
    assert clip.warnings == ()
    assert open_clip(Request("demo", "?"), FrameBounds(3136, 50176), SILENT, {}).source.fetched_at is None


# ---------------------------------------------------------------- eviction


def test_copies_unused_for_longest_go_first_and_fresh_ones_stay(tmp_path: Path) -> None:
    cache = DownloadCache(tmp_path, limit_bytes=2500)
    for number in range(5):
        (tmp_path / "new.mp4").write_bytes(b"x" * 1000)
        copy = cache.keep(tmp_path / "new.mp4", Origin(f"http://a/{number}", None, time.time(), time.time()))
        if number < 3:
            os.utime(copy.path.with_suffix(".json"), (10_000 + number, 10_000 + number))
    used = {copy.origin.url for copy in cache.copies()}
    assert used == {"http://a/3", "http://a/4"}
    assert len([*tmp_path.iterdir()]) == 4
    (tmp_path / "new.mp4").write_bytes(b"x" * 9000)
    cache.keep(tmp_path / "new.mp4", Origin("http://a/9", None, time.time(), time.time()))
    assert len([*cache.copies()]) == 3, "what was used within the hour stays, another process may read it"


def test_use_makes_a_copy_young(tmp_path: Path) -> None:
    cache = DownloadCache(tmp_path, limit_bytes=1500)
    for number in range(2):
        (tmp_path / "new.mp4").write_bytes(b"x" * 1000)
        copy = cache.keep(tmp_path / "new.mp4", Origin(f"http://a/{number}"))
        os.utime(copy.path.with_suffix(".json"), (10_000, 10_000))
        if number == 0:
            assert cache.find("http://a/0") is not None
    cache.evict()
    assert {copy.origin.url for copy in cache.copies()} == {"http://a/0"}


def test_unfinished_downloads_go_after_a_week(server: Server, cache: DownloadCache, big: bytes) -> None:
    interrupt(server, cache)
    [part] = cache.folder.glob(".part-*")
    for file in (*part.iterdir(), part):
        os.utime(file, (time.time() - 6 * 86400,) * 2)
    get(server, cache)
    assert part.exists()
    for file in (*part.iterdir(), part):
        os.utime(file, (time.time() - 8 * 86400,) * 2)
    get(server, cache, config=FetchConfig(refresh=True))
    assert not part.exists()


DAMAGED = ["", "{", "[]", "null", '{"url": 3}', '{"url": "x", "section": [1], "fetched_at": 1, "checked_at": 1, "validators": {}}']


@pytest.mark.parametrize("note", DAMAGED)
def test_a_damaged_note_is_no_reason_to_fail(note: str, server: Server, cache: DownloadCache) -> None:
    first = get(server, cache)
    first.path.with_suffix(".json").write_text(note)
    assert get(server, cache).path == first.path


# ---------------------------------------------------------------- cookies, parts, playlists


def test_cookies_go_to_the_server_and_errors_are_the_users(server: Server, cache: DownloadCache, tmp_path: Path) -> None:
    jar = tmp_path / "cookies.txt"
    jar.write_text("# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tabc\n")
    seen: list[str | None] = []
    real = server._http.RequestHandlerClass.do_GET

    def noting(handler: object) -> None:
        seen.append(handler.headers.get("Cookie"))  # type: ignore[attr-defined]
        real(handler)

    server._http.RequestHandlerClass.do_GET = server._http.RequestHandlerClass.do_HEAD = noting
    get(server, cache, config=FetchConfig(cookies=str(jar)))
    assert seen
    assert set(seen) == {"session=abc"}
    with pytest.raises(UsageError, match="no such file"):
        get(server, cache, "/sound.mp3", config=FetchConfig(cookies=str(tmp_path / "none.txt")))
    with pytest.raises(UsageError, match="names no browser") as caught:
        get(server, cache, "/sound.mp3", config=FetchConfig(cookies_from_browser="netscape"))
    assert "firefox" in (caught.value.hint or "")
    assert left(cache) == [left(cache)[0]]


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key frame every five seconds, a burst at every second."""
    return tone_video(tmp_path_factory.mktemp("minute"), 60.0, name="long.mp4", options={"g": "50"})


@pytest.fixture
def long_clip(minute: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    server.files["/long.mp4"] = File("video/mp4", minute.read_bytes())
    monkeypatch.setattr(download, "_LARGE_BYTES", 100_000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return server.url("/long.mp4")


def test_a_part_of_a_long_clip_is_fetched_alone_and_keeps_the_clips_clock(long_clip: str, server: Server) -> None:
    request = Request(long_clip, "?", media_options=MediaConfig(start_s=23.4, end_s=30.9, max_frames=16))
    clip = open_clip(request, FrameBounds(3136, 50176), SILENT, {})
    assert clip.source.size_bytes < len(server.files["/long.mp4"].content) / 3
    assert clip.start_s == pytest.approx(23.4)
    assert clip.duration_s == pytest.approx(7.5, abs=0.15)
    assert clip.frames is not None
    assert clip.frame_times_s is not None
    shown = [frame_index(frame) for frame in clip.frames]
    assert shown == pytest.approx([round(float(at) * 10) for at in clip.frame_times_s], abs=1)
    assert clip.waveform is not None
    assert [23.4 + at for at in onsets(clip.waveform)] == pytest.approx([24, 25, 26, 27, 28, 29, 30], abs=0.03)
    # The whole file is what the section is held against.
    [copy] = DownloadCache().copies()
    assert copy.origin.section == (23.0, 31.0)


def test_parts_are_found_again_and_the_whole_clip_serves_all(long_clip: str) -> None:
    first = fetch(long_clip, section=(23.4, 30.9))
    assert fetch(long_clip, section=(23.1, 30.5)).path == first.path
    assert first.offset_s == 23.0
    whole = fetch(long_clip)
    assert whole.path != first.path
    assert fetch(long_clip, section=(23.4, 30.9)).path == whole.path
    assert whole.offset_s == 0


@pytest.mark.parametrize("why", ["no ffmpeg", "most of it", "short", "webm", "no end"])
def test_otherwise_the_whole_clip_is_fetched(
    why: str, long_clip: str, server: Server, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    section: tuple[float, float | None] = (2.0, 5.0)
    if why == "no ffmpeg":
        monkeypatch.setattr(download.shutil, "which", lambda name: None)
    if why == "short":
        monkeypatch.setattr(download, "_LARGE_BYTES", 10**9)
    if why == "most of it":
        monkeypatch.setattr(download, "_first", lambda info: {"ext": "mp4", "duration": 5.0})
    if why == "no end":
        section = (2.0, None)
    if why == "webm":
        server.files["/long.webm"] = File("video/webm", clips["webm"].read_bytes())
        monkeypatch.setattr(download, "_LARGE_BYTES", 10)
        long_clip = server.url("/long.webm")
    found = fetch(long_clip, section=section)
    assert found.offset_s == 0
    assert found.path.stat().st_size == len(server.files[f"/long.{'webm' if why == 'webm' else 'mp4'}"].content)


FEED = """<?xml version="1.0"?><rss version="2.0"><channel><title>Pod</title>
<item><title>One</title><enclosure url="{0}" type="audio/mpeg" length="1"/></item>
<item><title>Two</title><enclosure url="{1}" type="audio/mpeg" length="1"/></item></channel></rss>"""


def test_a_feed_is_a_playlist_and_a_file_is_not_asked(server: Server) -> None:
    both = [server.url("/clip.mp4"), server.url("/sound.mp3")]
    server.files["/feed"] = File("application/rss+xml", FEED.format(*both).encode())
    assert address.playlist(server.url("/feed"), FetchConfig()) == both
    server.hits.clear()
    assert address.playlist(server.url("/clip.mp4"), FetchConfig()) is None
    assert address.playlist("https://www.youtube.com/watch?v=abcdefghijk", FetchConfig()) is None
    assert server.hits == []
    assert address.playlist(server.url("/page"), FetchConfig()) is None
    assert address.playlist(server.url("/404"), FetchConfig()) is None
