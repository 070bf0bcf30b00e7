"""Subtitles that a site has: a page on the loopback with a clip and its tracks, as yt-dlp reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnidrop_cli.config import FetchConfig
from omnidrop_cli.media.download_cache import DownloadCache
from omnidrop_cli.media.site_subtitles import _fitting
from omnidrop_cli.media.subtitles import read_subtitles
from tests.media.downloads import get, left
from tests.media.http_server import File, Server

VTT = "WEBVTT\n\n00:00.500 --> 00:01.500\n{word}\n"
WORDS = {"fr": "bonjour", "en": "hello"}


@pytest.fixture
def page(server: Server) -> str:
    """A page with a clip that has French and English subtitles."""
    tracks = "".join(f'<track kind="subtitles" srclang="{name}" src="{name}.vtt">' for name in WORDS)
    server.files["/film"] = File("text/html", f'<html><title>A film</title><video src="/clip.mp4">{tracks}</video></html>'.encode())
    for name, word in WORDS.items():
        server.files[f"/{name}.vtt"] = File("text/vtt", VTT.format(word=word).encode())
    return "/film"


def words(clip: Path, wanted: str) -> list[str]:
    subtitles, _ = read_subtitles(clip, wanted, 0.0, None)
    return [] if subtitles is None else [text for _, text in subtitles.lines]


@pytest.mark.parametrize(("wanted", "said"), [("auto", "bonjour"), ("en", "hello"), ("eng", "hello"), ("fr", "bonjour")])
def test_they_are_found_next_to_the_copy(server: Server, cache: DownloadCache, page: str, wanted: str, said: str) -> None:
    get(server, cache, page)
    bodies = server.bodies("/clip.mp4")
    found = get(server, cache, page, subtitles=wanted)
    assert server.bodies("/clip.mp4") == bodies, "the clip is there already"
    assert found.warnings == ()
    assert words(found.path, wanted) == [said]


def test_a_site_is_asked_once(server: Server, cache: DownloadCache, page: str) -> None:
    """Also where it has none in that language; what was asked for earlier does not change what `auto` takes."""
    clip = get(server, cache, page, subtitles="en").path
    assert words(get(server, cache, page, subtitles="auto").path, "auto") == ["bonjour"]
    get(server, cache, page, subtitles="de")
    server.hits.clear()
    for wanted in ("en", "auto", "de"):
        assert get(server, cache, page, subtitles=wanted).path == clip
    assert server.hits == []


def test_they_go_with_the_copy(server: Server, cache: DownloadCache, page: str) -> None:
    clip = get(server, cache, page, subtitles="en").path
    assert left(cache) == sorted([clip.name, f"{clip.stem}.en.vtt"])
    assert [copy.path for copy in cache.copies()] == [clip]
    again = get(server, cache, page, FetchConfig(refresh=True))
    assert left(cache) == [again.path.name]
    get(server, cache, page, subtitles="en")
    cache.remove(again.path)
    assert left(cache) == []


def test_plain_files_and_offline_runs_ask_no_site(server: Server, cache: DownloadCache, page: str) -> None:
    get(server, cache, "/clip.mp4")
    get(server, cache, page)
    server.hits.clear()
    get(server, cache, "/clip.mp4", subtitles="auto")
    get(server, cache, page, subtitles="auto", offline=True)
    get(server, cache, page, subtitles="talk.srt")
    get(server, cache, page, subtitles="..")
    assert server.hits == []


def test_a_failure_is_a_warning_and_is_tried_again(server: Server, cache: DownloadCache, page: str) -> None:
    lost = server.files.pop("/fr.vtt")
    found = get(server, cache, page, subtitles="auto")
    assert "the site's subtitles were not fetched: 127.0.0.1: " in found.warnings[0]
    server.files["/fr.vtt"] = lost
    assert words(get(server, cache, page, subtitles="auto").path, "auto") == ["bonjour"]


def test_written_ones_go_before_automatic_ones() -> None:
    text, chat = [{"ext": "json3"}, {"ext": "vtt"}], [{"ext": "json"}]
    info = {
        "language": "de",
        "subtitles": {"live_chat": chat, "en": text, "de-DE": text},
        "automatic_captions": {"en": text, "de-orig": text, "fr": text},
    }
    assert list(_fitting(info, "auto"))[:2] == ["de-DE", "en"]
    assert next(_fitting({**info, "subtitles": {}}, "auto")) == "de-orig"
    assert next(_fitting(info, "fr")) == "fr"
    assert list(_fitting(info, "pl")) == []
    assert list(_fitting({}, "auto")) == []
