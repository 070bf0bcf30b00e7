"""Which HLS playlists lack an end or lead to themselves, by their text alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnidrop_cli.media.playlist import is_nested, is_open, open_file

MEDIA = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\na.ts\n"
ENDED = MEDIA + "#EXT-X-ENDLIST\n"


def written(folder: Path, **playlists: str) -> Path:
    for name, text in playlists.items():
        (folder / f"{name}.m3u8").write_text(text)
    return folder / "main.m3u8"


def master(*names: str) -> str:
    return "#EXTM3U\n" + "".join(f"#EXT-X-STREAM-INF:BANDWIDTH=1\n{name}\n" for name in names)


@pytest.mark.parametrize(
    ("main", "lacks"),
    [
        (MEDIA, True),
        (ENDED, False),
        (master("ended.m3u8"), False),
        (master("running.m3u8"), True),
        (master("ended.m3u8", "running.m3u8"), True),
        (master("running.m3u8", "ended.m3u8"), True),
        (master("gone.m3u8"), False),
        ('#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",URI="running.m3u8"\n' + master("ended.m3u8")[8:], True),
    ],
)
def test_a_playlist_lacks_its_end_where_one_that_it_names_does(tmp_path: Path, main: str, lacks: bool) -> None:
    path = written(tmp_path, main=main, ended=ENDED, running=MEDIA)
    assert is_open(path) is lacks
    assert not is_nested(path)


@pytest.mark.parametrize(
    ("names", "nested"),
    [(["ended.m3u8", "main.m3u8"], True), (["other.m3u8"], True), (["data:,#EXTM3U"], True), (["ended.m3u8"], False)],
)
def test_playlists_of_playlists_of_playlists(tmp_path: Path, names: list[str], nested: bool) -> None:
    assert is_nested(written(tmp_path, main=master(*names), ended=ENDED, other=master("ended.m3u8"))) is nested


def test_an_end_is_given_to_what_lacks_one(tmp_path: Path) -> None:
    written(tmp_path, main=MEDIA, ended=ENDED)
    for name, text in (("main", MEDIA + "\n#EXT-X-ENDLIST\n"), ("ended", ENDED)):
        with open_file(f"file:{tmp_path / name}.m3u8", 0, {}) as file:
            assert file.read() == text.encode()
    with pytest.raises(PermissionError):
        open_file("https://example.org/a.ts", 0, {})
