"""What every use of yt-dlp shares, without a network."""

from __future__ import annotations

from typing import Any

import pytest

from omnidrop_cli.config import FetchConfig
from omnidrop_cli.media.ytdlp import base_options, first_clip, host_of


def test_nothing_of_yt_dlp_reaches_the_terminal() -> None:
    options = base_options(FetchConfig())
    assert all(options[name] is True for name in ("quiet", "noprogress", "no_color", "noplaylist"))
    assert options["socket_timeout"] == 20
    assert {"cookiefile", "cookiesfrombrowser"}.isdisjoint(options)
    assert base_options(FetchConfig(cookies_from_browser="firefox"))["cookiesfrombrowser"][0] == "firefox"


@pytest.mark.parametrize(
    ("url", "host"), [("http://me:secret@example.org:8/a", "example.org"), ("HTTPS://EXAMPLE.org", "example.org"), ("x", "x")]
)
def test_the_host_of_an_address(url: str, host: str) -> None:
    assert host_of(url) == host


@pytest.mark.parametrize(
    ("info", "clip"),
    [
        (None, {}),
        ({}, {}),
        ({"id": 1}, {"id": 1}),
        ({"id": 1, "entries": []}, {"id": 1, "entries": []}),
        ({"entries": [{"entries": iter([{"id": 2}, {"id": 3}])}, {"id": 4}]}, {"id": 2}),
        ({"entries": [None]}, {}),
    ],
)
def test_the_clip_of_a_page_that_was_taken_for_a_list(info: Any, clip: dict[str, object]) -> None:
    assert first_clip(info) == clip
