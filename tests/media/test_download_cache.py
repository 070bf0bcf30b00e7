"""Copies of clips: used while fresh, checked, dated, evicted."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from omnidrop_cli import fileio
from omnidrop_cli.config import FetchConfig, MediaConfig, Request
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.media import source
from omnidrop_cli.media.download_cache import LIMIT_BYTES, Copy, DownloadCache, Origin
from omnidrop_cli.media.open import open_clip
from omnidrop_cli.outputs import FrameBounds
from tests.clips import Clips
from tests.media.downloads import age, get, interrupt, left
from tests.media.http_server import File, Server

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


def test_the_note_of_a_copy_has_no_password(cache: DownloadCache, tmp_path: Path) -> None:
    cache.folder.mkdir(parents=True, exist_ok=True)
    (tmp_path / "clip.mp4").write_bytes(b"clip")
    address = "http://me:secret@host:8/a.mp4?x=a@b"
    copy = cache.keep(tmp_path / "clip.mp4", Origin(address))
    assert json.loads(copy.path.with_suffix(".json").read_text())["url"] == "http://host:8/a.mp4?x=a@b"
    found = cache.find(address)
    assert found is not None
    assert found.origin.url == address, "the check needs the password"


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
    clip, _ = open_clip(request, FrameBounds(3136, 50176), SILENT)
    assert clip.source.fetched_at is not None
    assert clip.source.fetched_at.startswith(time.strftime("%Y-%m-%dT%H", time.gmtime()))
    assert clip.warnings == ()
    assert open_clip(Request("demo", "?"), FrameBounds(3136, 50176), SILENT)[0].source.fetched_at is None


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
        os.utime(file, (time.time() - 6.9 * 86400,) * 2)
    get(server, cache)
    assert part.exists()
    for file in (*part.iterdir(), part):
        os.utime(file, (time.time() - 7.1 * 86400,) * 2)
    get(server, cache, config=FetchConfig(refresh=True))
    assert not part.exists()


WHOLE = '{"url": "x", "section": null, "fetched_at": 1, "checked_at": 1, "validators": {}'


def test_who_waits_for_another_process_reads_why(server: Server, cache: DownloadCache, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(source.time, "sleep", slept.append)

    class Waiting(ProgressCallback):
        said: list[str] = []  # noqa: RUF012

        def detail(self, text: str) -> None:
            if "another" in text:
                self.said.append(text)
                held.close()  # the other one is done

    with ExitStack() as held:
        held.enter_context(fileio.locked_folder(cache.part(server.url("/clip.mp4"), None)))
        assert get(server, cache, progress=Waiting()).path.stat().st_size
    assert Waiting.said == ["127.0.0.1: another process is downloading this clip"]
    assert slept[0] == 0.5


DAMAGED = ["", "{", "[]", "null", '{"url": 3}', WHOLE.replace("null", "[1]") + "}", WHOLE + ', "subtitles": 5}']


@pytest.mark.parametrize("note", DAMAGED)
def test_a_damaged_note_is_no_reason_to_fail(note: str, server: Server, cache: DownloadCache) -> None:
    first = get(server, cache)
    first.path.with_suffix(".json").write_text(note)
    assert get(server, cache).path == first.path


def test_a_copy_of_another_format_takes_the_earlier_ones_place(cache: DownloadCache, tmp_path: Path) -> None:
    cache.folder.mkdir(parents=True)
    origin = Origin("https://example.org/clip", None, time.time(), time.time(), {})
    for suffix in (".mp4", ".webm", ".webm"):
        (tmp_path / f"new{suffix}").write_bytes(suffix.encode())
        kept = cache.keep(tmp_path / f"new{suffix}", origin)
        assert kept.path.read_bytes() == suffix.encode()
        assert left(cache) == [kept.path.name]


def test_the_cache_holds_what_the_docs_say() -> None:
    assert LIMIT_BYTES == 20_000_000_000  # docs/user/where-things-live.md


def test_the_age_of_a_copy_counts_from_its_last_check() -> None:
    now = time.time()
    for fetched, checked, age_s in ((100, 10, 10), (10, 100, 10), (100, 100, 100), (-50, 0, 0)):
        copy = Copy(Path("a.mp4"), Origin("http://a/b", None, now - fetched, now - checked))
        assert copy.age_s == pytest.approx(age_s, abs=5)
        assert copy.age_s >= 0


@pytest.mark.parametrize(
    ("age_s", "said"), [(86_300, ""), (86_401, "1 day old"), (2 * 86_400 - 100, "1 day old"), (2 * 86_400, "2 days old")]
)
def test_a_copy_that_was_not_checked_for_a_day_is_dated(age_s: float, said: str) -> None:
    then = time.time() - age_s
    copy = Copy(Path("a.mp4"), Origin("http://a/b", (20.0, 30.0), then, then))
    found = source._fetched(copy, checked=False)
    assert found.offset_s == 20.0
    assert [warning for warning in found.warnings if said and said in warning] == list(found.warnings)
    assert bool(found.warnings) == bool(said)
    assert source._fetched(copy, checked=True).warnings == ()


@pytest.mark.parametrize(("age_s", "checks"), [(45.0, 0), (60.3, 1)])
def test_a_copy_is_checked_once_a_minute(
    age_s: float, checks: int, tmp_path: Path, cache: DownloadCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.folder.mkdir(parents=True)
    (tmp_path / "new.mp4").write_bytes(b"clip")
    then = time.time() - age_s
    cache.keep(tmp_path / "new.mp4", Origin("http://h/a.mp4", None, then, then, {"length": "4"}))
    asked: list[object] = []
    monkeypatch.setattr(source, "is_unchanged", lambda copy, _: asked.append(copy) or True)
    assert source.fetch("http://h/a.mp4", cache=cache).warnings == ()
    assert len(asked) == checks
    found = cache.find("http://h/a.mp4")
    assert found is not None
    assert found.age_s < 40, "that it was checked is written down"


@pytest.mark.parametrize(("unused_s", "size", "stays"), [(3_500.0, 1_000, True), (3_600.5, 1_000, False), (3_600.5, 999, True)])
def test_what_was_used_within_the_hour_or_fits_stays(unused_s: float, size: int, stays: bool, tmp_path: Path) -> None:
    cache = DownloadCache(tmp_path, limit_bytes=1_000)
    for number, content in enumerate((b"x", b"x" * size)):
        (tmp_path / "new.mp4").write_bytes(content)
        copy = cache.keep(tmp_path / "new.mp4", Origin(f"http://a/{number}", None, time.time(), time.time()))
        if number == 0:
            os.utime(copy.path.with_suffix(".json"), (time.time() - unused_s,) * 2)
    cache.evict()
    assert sorted(copy.origin.url for copy in cache.copies()) == ["http://a/0", "http://a/1"][not stays :]


def test_a_copy_that_is_gone_can_be_removed(tmp_path: Path) -> None:
    DownloadCache(tmp_path).remove(tmp_path / "gone.mp4")


def test_a_note_is_read_as_it_was_written(cache: DownloadCache) -> None:
    cache.folder.mkdir(parents=True)
    origin = Origin("http://a/b", (1.5, 7.25), 10.0, 20.0, {"etag": "x"}, ("en", "auto"))
    cache.note(origin)
    [note] = cache.folder.iterdir()
    assert len(note.stem) == 24
    (cache.folder / f"{note.stem}.mp4").write_bytes(b"clip")
    found = cache.find("http://a/b", (1.5, 7.25))
    assert found is not None
    assert found.origin == origin
    assert cache.find("http://a/b") is None
    for section in ('["1.5", 7.25]', "[1.5]", "[1.5, 7.25, 9]", '[1.5, "7"]'):
        note.write_text(note.read_text().replace("[1.5, 7.25]", section))
        [copy] = cache.copies()
        assert copy.origin.section is None
        cache.note(origin)
