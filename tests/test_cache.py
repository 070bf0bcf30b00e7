"""What is found on the disk, what removing leaves alone, and what a running process holds."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from omnidrop_cli import cache, fileio, paths
from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.in_use import in_use, is_in_use, keep_in_use
from omnidrop_cli.media.download_cache import DownloadCache, Origin
from tests.processes import a_process_that_uses

URL = "https://example.org/talk.mp4"


def clip(url: str = URL, size: int = 1000) -> Path:
    """A copy in the user's cache of downloads, as a download leaves it."""
    folder = paths.downloads()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "new.mp4").write_bytes(b"x" * size)
    return DownloadCache().keep(folder / "new.mp4", Origin(url, fetched_at=time.time())).path


def features(key: str = "a" * 64) -> Path:
    path = paths.features() / f"{key}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"y" * 500)
    return path


def test_items_have_names_sizes_and_their_last_use() -> None:
    copy, output = clip(), features()
    os.utime(copy.with_suffix(".json"), (1000, 1000))
    os.utime(output, (2000, 2000))
    (paths.benchmarks() / "nano").mkdir(parents=True)
    (paths.benchmarks() / "nano" / "clip.mp4").write_bytes(b"z" * 10)
    (paths.models() / "7b-nf4").mkdir(parents=True)
    (paths.models() / "7b-nf4" / "config.json").write_text("{}")
    paths.chat_history().parent.mkdir(parents=True)
    paths.chat_history().write_text("what?\n")
    found = {item.kind: item for item in cache.items([kind for kind in cache.KINDS if kind != "models"])}
    assert found["clips"] == cache.CacheItem("clips", URL, copy, 1000, 1000)
    assert found["features"] == cache.CacheItem("features", "a" * 12, output, 500, 2000)
    assert (found["benchmarks"].name, found["benchmarks"].size_bytes) == ("nano", 10)
    assert (found["copies"].name, found["copies"].size_bytes) == ("7b-nf4", 2)
    assert found["chat"].path == paths.chat_history()
    for item in found.values():
        assert cache.remove(item)
    assert cache.items([kind for kind in cache.KINDS if kind != "models"]) == []
    assert not copy.with_suffix(".json").exists()


def test_what_is_not_ours_is_neither_found_nor_removed(tmp_path: Path) -> None:
    """Files with other names, links out of the folders, and folders that are no models."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "config.json").write_text("{}")
    for folder in (paths.downloads(), paths.features(), paths.models(), paths.benchmarks()):
        folder.mkdir(parents=True)
    (paths.downloads() / "holiday.mp4").write_bytes(b"mine")
    (paths.downloads() / f"{'b' * 24}.mp4").symlink_to(outside / "config.json")
    (paths.features() / "weights.safetensors").write_bytes(b"mine")
    (paths.features() / f"{'c' * 64}.safetensors").symlink_to(outside / "config.json")
    (paths.models() / "linked").symlink_to(outside)
    (paths.models() / "notes").mkdir()
    (paths.benchmarks() / "linked").symlink_to(outside)
    assert cache.items([kind for kind in cache.KINDS if kind != "models"]) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no shared locks")
def test_what_a_process_uses_stays_until_it_ends() -> None:
    path = clip()
    (item,) = cache.items(["clips"])
    with a_process_that_uses(path):
        assert is_in_use(path)
        assert not cache.remove(item)
        DownloadCache(limit_bytes=0).evict()
        assert path.exists()
    assert cache.remove(item)
    assert not path.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no shared locks")
def test_several_processes_may_use_one_file(tmp_path: Path) -> None:
    path = tmp_path / "clip"
    assert not is_in_use(path)  # there is none
    path.write_bytes(b"")
    keep_in_use(path)
    keep_in_use(path)
    with in_use(path), a_process_that_uses(path):
        assert is_in_use(path)
    assert is_in_use(path), "kept until the process ends"
    other = tmp_path / "other"
    other.write_bytes(b"")
    with in_use(other):
        assert is_in_use(other)
    assert not is_in_use(other)


def test_unfinished_work_stays_while_its_process_runs() -> None:
    part = DownloadCache().part(URL, None)
    with fileio.locked_folder(part):
        (part / "clip-1.mp4.part").write_bytes(b"half")
        (item,) = cache.items(["clips"])
        assert item.name == "unfinished"
        assert not cache.remove(item)
        assert part.exists()
    assert cache.remove(item)
    assert not part.exists()


def test_a_folder_that_is_removed_half_way_looks_like_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = paths.models() / "7b-nf4"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (item,) = cache.items(["copies"])

    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr("shutil.rmtree", fails)
        with pytest.raises(OmnidropError, match="7b-nf4 cannot be removed: input/output error"):
            cache.remove(item)
    assert not model.exists()
    (left,) = cache.items(["copies"])
    assert left.name == "unfinished"
    assert cache.remove(left)
    assert not any(paths.models().iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no shared locks")
def test_a_clip_is_in_use_while_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    from omnidrop_cli.config import Request
    from omnidrop_cli.events import SILENT
    from omnidrop_cli.media import open as opening
    from omnidrop_cli.outputs import FrameBounds

    path = clip()
    seen: list[bool] = []

    def decode(*_: object) -> None:
        seen.append(is_in_use(path))
        raise InterruptedError

    monkeypatch.setattr(opening, "decode_media", decode)
    with pytest.raises(InterruptedError):
        opening.open_clip(Request(URL, "?"), FrameBounds(784, 784), SILENT)
    assert seen == [True]
    assert not is_in_use(path)
