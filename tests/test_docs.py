"""The pages say what the program does: made pages are fresh, flags exist, links lead somewhere, the README's commands run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import leaderboard, reference

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def test_the_command_page_is_fresh() -> None:
    assert (ROOT / "docs" / "user" / "cli.md").read_text() == reference.page(), "python -m tests.reference > docs/user/cli.md"


def test_measured_tables_are_those_of_their_files() -> None:
    text = leaderboard.PAGE.read_text()
    assert leaderboard.renewed(text, leaderboard.PAGE.parent) == text, "python -m tests.leaderboard"
    assert len(leaderboard.BLOCK.findall(text)) == text.count("<!-- from ")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in ("cli.md", "log.md")], ids=lambda page: page.name)
def test_flags_exist(page: Path) -> None:
    known = set(re.findall(r"`(--[a-z-]+)`", reference.page())) | {"--help", "--version"}
    for line in re.findall(r"(?:^|`)omnidrop [^`\n]*", page.read_text(), re.MULTILINE):
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line):
            assert flag in known, f"{flag} in {line!r}"


def test_the_tree_in_the_readme_is_true() -> None:
    tree = re.search(r"## The source tree\n\n```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert tree is not None
    columns = [line.strip().split("   ")[0] for line in tree[1].splitlines()[1:]]
    named = {name.rstrip("/") for column in columns for name in re.findall(r"[\w.]+(?:/|\.py)", column)}
    rooms = {path.name for path in (ROOT / "omnidrop_cli").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms <= named
    assert all((ROOT / "omnidrop_cli" / name).exists() for name in named)


def test_nothing_is_installed_from_a_registry_that_does_not_have_it() -> None:
    """The package is not published, so `pip install omnidrop-cli[ray]` fails: hints name the requirement itself."""
    sources = [*PAGES, *(ROOT / "omnidrop_cli").rglob("*.py")]
    assert not [str(path) for path in sources if re.search(r"pip install [^\n]*omnidrop-cli", path.read_text(encoding="utf-8"))]


def test_the_changelog_has_a_place_for_what_is_new() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_readmes_first_command_answers() -> None:
    block = re.search(r"```console\npip install \. && omnidrop (.*)\n```", (ROOT / "README.md").read_text())
    assert block is not None
    arguments = [part.strip('"') for part in re.findall(r'"[^"]*"|\S+', block[1])]
    done = subprocess.run([sys.executable, "-m", "omnidrop_cli", *arguments], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "retention" in done.stderr
