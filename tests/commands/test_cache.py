"""`omnidrop cache`: listing and cleaning, for people, scripts and terminals."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from omnidrop_cli import cache, paths
from omnidrop_cli.errors import UsageError
from omnidrop_cli.options import days
from tests.commands.running import Done
from tests.test_cache import URL, clip, features

Run = Callable[..., Done]


def aged(path: Path, age_s: float) -> Path:
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_ls_counts_kinds_and_lists_items(omnidrop: Run) -> None:
    clip(size=2_000_000)
    aged(features(), 3 * 86400 + 60)
    done = omnidrop("cache", "ls")
    rows = {line.split()[0]: line for line in done.out.splitlines()}
    assert set(rows) == {"kind", *cache.KINDS}
    assert "2.00 MB" in rows["clips"]
    assert "3 days" in rows["features"]
    assert "2.00 MB in all" in done.err
    assert URL in omnidrop("cache", "ls", "clips").out
    value = json.loads(omnidrop("cache", "ls", "clips", "features", "--json").out)
    assert [(item["kind"], item["size_bytes"]) for item in value["items"]] == [("clips", 2_000_000), ("features", 500)]
    assert value["folders"]["clips"] == str(paths.downloads())


def test_clean_asks_and_off_a_terminal_wants_yes(omnidrop: Run) -> None:
    path = clip()
    done = omnidrop("cache", "clean")
    assert isinstance(done.error, UsageError)
    assert "this would delete 1 item" in str(done.error)
    assert omnidrop("cache", "clean", "--dry-run").code == 0
    assert path.exists()
    done = omnidrop("cache", "clean", "--yes")
    assert (done.code, path.exists()) == (0, False)
    assert "1 removed, 0.00 MB freed" in done.err
    assert "nothing to remove" in omnidrop("cache", "clean", "--yes").err


def test_clean_takes_what_is_old_enough_of_the_kinds_named(omnidrop: Run) -> None:
    old, young, of_another_kind = aged(features("a" * 64), 40 * 86400), features("b" * 64), clip()
    assert omnidrop("cache", "clean", "features", "--older-than", "30d", "--yes").code == 0
    assert (old.exists(), young.exists(), of_another_kind.exists()) == (False, True, True)
    for wrong in (["--older-than", "30"], ["--older-than", "-1d"], ["fetures"]):
        assert isinstance(omnidrop("cache", "clean", *wrong, "--yes").error, UsageError)
    assert young.exists()


def test_without_a_kind_only_what_is_made_again_goes(omnidrop: Run) -> None:
    model = paths.models() / "7b-nf4"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    paths.chat_history().parent.mkdir(parents=True)
    paths.chat_history().write_text("what?\n")
    clip()
    assert omnidrop("cache", "clean", "--yes").code == 0
    assert model.exists()
    assert paths.chat_history().exists()
    assert omnidrop("cache", "clean", "copies", "chat", "--yes").code == 0
    assert not model.exists()
    assert not paths.chat_history().exists()


def test_a_refusing_disk_is_said_and_the_rest_goes(omnidrop: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = aged(features("a" * 64), 100), features("b" * 64)
    real = Path.unlink

    def unlink(self: Path, missing_ok: bool = False) -> None:
        if self == first:
            raise PermissionError(13, "Permission denied")
        real(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    done = omnidrop("cache", "clean", "--yes")
    assert done.code == 3
    assert "permission denied" in done.err
    assert (first.exists(), second.exists()) == (True, False)


@pytest.mark.parametrize(("text", "seconds"), [("45m", 2700), ("12h", 43200), ("30d", 2_592_000), ("2w", 1_209_600), ("1.5d", 129_600)])
def test_ages(text: str, seconds: float) -> None:
    assert days(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "30", "30 d", "-1d", "1y", "infd", "1e3d", "1.2.3d"])
def test_ages_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        days(text)
