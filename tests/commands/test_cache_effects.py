"""Every option of `cache`'s commands changes what is listed or removed.

`python -m tests.benchmarks.break_flags cache` forces each option to its default and reports the tests that notice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import pytest

from omnidrop_cli import cache
from tests.commands.effects import COMMON_ELSEWHERE, Row, Run, check_complete, err, error, out
from tests.commands.running import Done
from tests.test_cache import clip, features


def left(_: Done) -> object:
    return [item.path for item in cache.items(("clips", "features"))]


EFFECTS = (
    Row("json", (), out, ("ls",)),
    Row("quiet", (), err, ("ls",)),
    Row("older-than", ("30d",), left, ("clean", "--yes")),
    Row("dry-run", (), left, ("clean", "--yes")),
    Row("yes", (), error, ("clean",)),
)

ELSEWHERE: Mapping[str, str] = {
    **COMMON_ELSEWHERE,
    "verbose": "no stage runs here",
}
"""Options whose effect is tested elsewhere, or that every command has."""


@pytest.mark.parametrize("row", EFFECTS, ids=lambda row: row.flag)
def test_an_option_has_its_effect(omnidrop: Run, row: Row) -> None:
    found = []
    for flags in ((), row.words):
        clip()
        os.utime(features("a" * 64), (time.time() - 40 * 86400,) * 2)
        found.append(row.effect(omnidrop("cache", *row.given, *flags)))
    assert found[0] != found[1]


def test_every_option_is_in_a_table() -> None:
    check_complete("cache", EFFECTS, ELSEWHERE)
