"""Every option of `models`'s commands changes what is listed, fetched, saved or removed: with a hub on the loopback.

`python -m tests.benchmarks.break_flags models` forces each option to its default and reports the tests that notice.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from omnidrop_cli import paths
from omnidrop_cli.model.random_weights import tiny_thinker
from tests.commands.effects import COMMON_ELSEWHERE, Row, Run, check_complete, error, out
from tests.commands.running import Done
from tests.model.checkpoints import write_omni
from tests.model.hub_server import Hub, point_to, serving, use_cache


@pytest.fixture(scope="module")
def omni(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_omni(tiny_thinker(), tmp_path_factory.mktemp("omni"))


@pytest.fixture(autouse=True)
def hub(omni: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one repository, owner/model, and a copy of it by the name small-nf4."""
    use_cache(monkeypatch, tmp_path / "hub")
    shutil.copytree(omni, paths.models() / "small-nf4")
    with serving(omni) as running:
        point_to(monkeypatch, running.url)
        yield running


def lines(done: Done) -> Any:
    return len(done.err.splitlines())


def copies(_: Done) -> Any:
    return sorted(path.name for path in (*paths.models().iterdir(), *Path().iterdir()))


def stored(_: Done) -> Any:
    config = json.loads((paths.models() / "model-nf4" / "config.json").read_text(encoding="utf-8"))
    return config.get("dtype") or config.get("torch_dtype")


HUB, QUANTIZE = ("owner/model",), ("quantize", "owner/model")

EFFECTS = (
    Row("json", (), out, ("list",)),
    Row("revision", ("no-such-branch",), error, ("pull", *HUB)),
    Row("yes", (), error, ("rm", "small-nf4")),
    Row("model", ("owner/model",), copies, ("quantize",)),
    Row("quant", ("int8",), copies, QUANTIZE),
    Row("output", ("mine",), copies, QUANTIZE),
    Row("dtype", ("bfloat16",), stored, QUANTIZE),
    Row("device", ("cuda:77",), error, QUANTIZE),
    Row("attn", ("flash_attention_2",), error, QUANTIZE),
    Row("offline", (), error, QUANTIZE),
    Row("quiet", (), lines, ("pull", *HUB)),
    Row("verbose", (), lines, QUANTIZE),
)

ELSEWHERE: Mapping[str, str] = {
    **COMMON_ELSEWHERE,
    "feature-cache": "no effect here: no clip is encoded",
    "graph": "no effect here: nothing is decoded",
    "quant-head": "tests/batch/test_models_command.py: refused, because a copy keeps its output matrix",
}
"""Options whose effect is tested elsewhere, or that every command has."""


@pytest.mark.parametrize("row", EFFECTS, ids=lambda row: row.flag)
def test_an_option_has_its_effect(omnidrop: Run, row: Row, tmp_path: Path) -> None:
    found = []
    for flags in ((), row.words):
        for path in (tmp_path / "hub", *paths.models().glob("[!s]*")):
            shutil.rmtree(path, ignore_errors=True)
        found.append(row.effect(omnidrop("models", *row.given, *flags)))
    assert found[0] != found[1]


def test_every_option_is_in_a_table() -> None:
    check_complete("models", EFFECTS, ELSEWHERE)
