"""Addresses with cookies, parts of long clips, and playlists."""

from __future__ import annotations

from pathlib import Path

import pytest
import yt_dlp

from omnidrop_cli.config import FetchConfig, MediaConfig, Request
from omnidrop_cli.errors import UsageError
from omnidrop_cli.events import SILENT
from omnidrop_cli.media import address, download
from omnidrop_cli.media.download_cache import Copy, DownloadCache, Origin
from omnidrop_cli.media.open import open_clip
from omnidrop_cli.media.source import fetch
from omnidrop_cli.outputs import FrameBounds
from tests.clips import Clips, tone_video
from tests.media.downloads import get, left
from tests.media.http_server import File, Server
from tests.signals import frame_index, onsets


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
    clip, _ = open_clip(request, FrameBounds(3136, 50176), SILENT)
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


def test_a_part_that_is_longer_than_asked_is_none(long_clip: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a server sends everything whatever it is asked for."""
    real = yt_dlp.utils.download_range_func
    monkeypatch.setattr(yt_dlp.utils, "download_range_func", lambda chapters, _: real(chapters, [(1.0, 59.0)]))
    found = fetch(long_clip, section=(40.0, 45.0))
    assert found.offset_s == 0
    assert found.path.stat().st_size == len(server.files["/long.mp4"].content)


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
        monkeypatch.setattr(download, "first_clip", lambda info: {"ext": "mp4", "duration": 5.0})
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


@pytest.mark.parametrize(
    ("known", "found", "unchanged"),
    [
        ({}, {"etag": "a"}, None),
        ({"etag": "a"}, {"etag": "a", "last_modified": "z"}, True),
        ({"etag": "a"}, {"etag": "b"}, False),
        ({"etag": "a", "last_modified": "x"}, {"etag": "b", "last_modified": "x"}, False),
        ({"etag": "a", "last_modified": "x"}, {"last_modified": "x"}, True),
        ({"last_modified": "x", "length": "1"}, {"last_modified": "x", "length": "2"}, True),
        ({"last_modified": "x"}, {"last_modified": "y"}, False),
        ({"etag": "a"}, {}, None),
        ({"length": "1"}, {"length": "1"}, None),
        ({"length": "1"}, {"length": "2"}, False),
        ({"length": "1"}, {}, None),
    ],
)
def test_what_a_server_says_of_a_copy(
    known: dict[str, str], found: dict[str, str], unchanged: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stronger of what both say decides; an equal length proves nothing."""
    asked: list[dict[str, str]] = []
    monkeypatch.setattr(address, "_head", lambda url, config, headers: asked.append(headers) or (200, found))
    copy = Copy(Path("a.mp4"), Origin("http://h/a.mp4", None, 0.0, 0.0, known))
    assert address.is_unchanged(copy, FetchConfig()) is unchanged
    names = {"etag": "If-None-Match", "last_modified": "If-Modified-Since"}
    assert asked == ([{names[name]: value for name, value in known.items() if name in names}] if known else [])


def test_what_tells_a_plain_file_from_a_later_one(server: Server) -> None:
    found = address.validators(server.url("/clip.mp4"), FetchConfig())
    assert found is not None
    assert found["etag"] == server.files["/clip.mp4"].tag
    assert int(found["length"]) == len(server.files["/clip.mp4"].content)
    assert address.validators(server.url("/gone.mp4"), FetchConfig()) == {}
    assert address.validators("https://www.youtube.com/watch?v=aaaaaaaaaaa", FetchConfig()) is None
