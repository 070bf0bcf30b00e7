"""A server of clips on the loopback, and a cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from omnidrop_cli.media.download_cache import DownloadCache
from tests.clips import Clips, padded_mp4
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


@pytest.fixture
def big(server: Server, clips: Clips) -> bytes:
    content = padded_mp4(clips["tone_video"], 0)
    server.files["/big.mp4"] = File("video/mp4", content)
    return content
