"""docs/user/json.md names every field of every kind of object, in that kind's own section."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from omnidrop_cli.cli import build

PAGE = (Path(__file__).parents[2] / "docs" / "user" / "json.md").read_text(encoding="utf-8")
SHORT = ["--model", "nano", "--device", "cpu", "--max-new-tokens", "1", "--max-frames", "4", "--quiet"]
SECTIONS = {"report": "`omnidrop ask --json`", "comparison": "A comparison holds", "inspection": "An inspection (", "error": "A failure in"}
"""How the section of each kind begins."""


def printed(*words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(CliRunner().invoke(build(), [*words, "--json"], catch_exceptions=False).stdout)
    return found


@pytest.fixture(scope="module")
def objects() -> dict[str, dict[str, Any]]:
    """One object of every kind that the program prints."""
    from omnidrop_cli.errors import MediaError
    from omnidrop_cli.report.json import error_to_dict

    return {
        "report": printed("ask", "demo", "who?", *SHORT),
        "comparison": printed("ask", "demo", "who?", "--compare", *SHORT),
        "inspection": printed("inspect", "demo", "--model", "nano"),
        "error": error_to_dict(["gone.mp4"], "who?", MediaError("gone.mp4: no such file", "check the path")),
    }


def section(kind: str) -> str:
    start = PAGE.index(SECTIONS[kind])
    ends = [PAGE.find(mark, start + 1) for mark in (*SECTIONS.values(), "## ")]
    return PAGE[start : min(end for end in ends if end > 0)]


def named(text: str) -> set[str]:
    """The words of code in a text, and the keys of objects in it."""
    code = re.findall(r"`([^`]+)`", text)
    return {word for piece in code for word in re.findall(r"[a-z][a-z_]*", piece)}


@pytest.mark.parametrize("kind", SECTIONS)
def test_every_field_is_on_the_page(objects: dict[str, dict[str, Any]], kind: str) -> None:
    found = objects[kind]
    assert found["kind"] == kind
    assert found.keys() - {"schema", "kind"} <= named(section(kind)), "the page lacks a field"


def test_every_field_in_the_tables_exists(objects: dict[str, dict[str, Any]]) -> None:
    optional = {"batch", "choices", "parsed", "prompt_lookup"}
    for kind in ("report", "comparison", "inspection"):
        rows = re.findall(r"^\| (`[^|]*`) \|", section(kind), flags=re.MULTILINE)
        inside = {key for value in objects[kind].values() if isinstance(value, dict) for key in value}
        listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
        assert listed <= objects[kind].keys() | inside | optional, kind


@pytest.mark.parametrize(("field", "inner"), [("tokens", None), ("memory_guess_mb", 0)])
def test_what_an_inspection_holds_inside_is_on_the_page(objects: dict[str, dict[str, Any]], field: str, inner: int | None) -> None:
    value = objects["inspection"][field]
    keys = (value if inner is None else value[inner]).keys()
    assert keys <= named(section("inspection"))
