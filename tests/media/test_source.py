"""Downloads from a server on the loopback: cached, whole or not at all, and every refusal with a hint."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from omnidrop_cli import paths
from omnidrop_cli.config import MediaConfig
from omnidrop_cli.errors import FetchError, MediaError
from omnidrop_cli.events import Observer
from omnidrop_cli.media.clip import decode_media
from omnidrop_cli.media.source import fetch, is_url
from tests.clips import Clips


class Server:
    """Serves `files` (path → type, content), and remembers what was asked for. Unknown paths give their own status: /403 gives 403."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[str, bytes]] = {}
        self.hits: list[str] = []
        self.break_after: int | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.hits.append(self.path)
                if self.path not in outer.files:
                    self.send_error(int(self.path[1:]) if self.path[1:].isdigit() else 404)
                    return
                kind, content = outer.files[self.path]
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content[: outer.break_after])

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None: ...

        class QuietServer(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None: ...

        self._http = QuietServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._http.server_port}{path}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server(clips: Clips) -> Iterator[Server]:
    server = Server()
    server.files = {
        "/clip.mp4": ("video/mp4", clips["tone_video"].read_bytes()),
        "/watch?v=7": ("video/mp4", clips["tone_video"].read_bytes()),
        "/sound.mp3": ("audio/mpeg", clips["mp3"].read_bytes()),
        "/moving.gif": ("image/gif", clips["gif"].read_bytes()),
        "/page": ("text/html", b"<html><title>A page</title><p>No clip here.</p></html>"),
        "/empty.mp4": ("video/mp4", b""),
    }
    yield server
    server.close()


@pytest.mark.parametrize(
    ("media", "answer"), [("http://a/b", True), ("HTTPS://a/b", True), ("clip.mp4", False), ("./http:/x", False), ("", False)]
)
def test_is_url(media: str, answer: bool) -> None:
    assert is_url(media) is answer


def test_a_path_is_itself() -> None:
    assert fetch("some/clip.mp4") == Path("some/clip.mp4")


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


@pytest.mark.parametrize("path", ["/clip.mp4", "/watch?v=7", "/sound.mp3", "/moving.gif"])
def test_download(server: Server, tmp_path: Path, path: str) -> None:
    file = fetch(server.url(path), cache_dir=tmp_path)
    assert file.read_bytes() == server.files[path][1]
    assert decode_media(file, MediaConfig(max_frames=4)).duration_s > 1
    assert list(tmp_path.iterdir()) == [file]


def test_the_second_time_it_is_there(server: Server, tmp_path: Path) -> None:
    first = fetch(server.url("/clip.mp4"), cache_dir=tmp_path)
    asked = len(server.hits)
    assert fetch(server.url("/clip.mp4"), cache_dir=tmp_path) == first
    assert fetch(server.url("/clip.mp4"), cache_dir=tmp_path, offline=True) == first
    assert len(server.hits) == asked
    assert fetch(server.url("/sound.mp3"), cache_dir=tmp_path) != first


def test_the_cache_is_the_users(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert paths.downloads() == tmp_path / "cache" / "omnidrop" / "media"
    assert fetch(server.url("/sound.mp3")).parent == paths.downloads()


def test_offline(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="not been downloaded") as caught:
        fetch(server.url("/clip.mp4"), cache_dir=tmp_path, offline=True)
    assert caught.value.hint
    assert server.hits == []


@pytest.mark.parametrize(
    ("path", "words", "hint"),
    [
        ("/gone.mp4", "404", "address"),
        ("/403", "403", "yt-dlp"),
        ("/page", "Unsupported URL", "download the clip yourself"),
        ("/empty.mp4", "data", "download the clip yourself"),
    ],
)
def test_refusals(server: Server, tmp_path: Path, path: str, words: str, hint: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FetchError, match=words) as caught:
        fetch(server.url(path), cache_dir=tmp_path)
    assert hint in (caught.value.hint or "")
    assert "\n" not in caught.value.message
    assert "ERROR" not in caught.value.message
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(FetchError) as caught:
        fetch(f"http://127.0.0.1:{port}/clip.mp4", cache_dir=tmp_path)
    assert "network" in (caught.value.hint or "")


def test_not_an_address(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="not a valid address"):
        fetch("http://[oops", cache_dir=tmp_path)


def test_too_large(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="larger than"):
        fetch(server.url("/clip.mp4"), cache_dir=tmp_path, max_bytes=1000)
    assert list(tmp_path.iterdir()) == []


def test_half_a_file_is_no_file(server: Server, tmp_path: Path) -> None:
    server.break_after = 5000
    with pytest.raises(FetchError):
        fetch(server.url("/clip.mp4"), cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_interrupted_download_leaves_nothing(server: Server, tmp_path: Path) -> None:
    class Impatient(Observer):
        def advance(self, done: float, total: float | None) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server.url("/clip.mp4"), cache_dir=tmp_path, observer=Impatient())
    assert list(tmp_path.iterdir()) == []


def test_unwritable_cache(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FetchError, match="cannot be kept") as caught:
        fetch(server.url("/clip.mp4"), cache_dir=tmp_path / "file" / "media")
    assert "XDG_CACHE_HOME" in (caught.value.hint or "")


def test_progress(server: Server, tmp_path: Path) -> None:
    class Listening(Observer):
        last: tuple[float, float | None] = (0, None)

        def advance(self, done: float, total: float | None) -> None:
            self.last = (done, total)

    observer = Listening()
    fetch(server.url("/clip.mp4"), cache_dir=tmp_path, observer=observer)
    size = len(server.files["/clip.mp4"][1])
    assert observer.last == (size, size)


def test_bundled_clips_have_names_that_files_go_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert fetch("demo").is_file()
    assert fetch("demo2") != fetch("demo")
    (tmp_path / "demo").write_bytes(b"mine")
    assert fetch("demo") == Path("demo")
    assert fetch("../demo2") == Path("../demo2")
