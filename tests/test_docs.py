"""The pages are true: generated ones are fresh; links, files, modules and flags exist; the site builds without warnings."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.make import cli_reference, generated
from tests.docs.blocks import LOG, PAGES, ROOT

CURRENT = [page for page in PAGES if page != LOG]
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
FLAG = re.compile(r"(?<![\w/-])--[a-z][a-z-]+")
OTHER_PROGRAMS = re.compile(r"^(apt-get|pip|pipx|uv|mkdocs|ruff|mypy|python|ray|find|ffmpeg|git|jq|hf|yt-dlp) ")
RETIRED = re.compile(
    r"(?<![a-z])(towers?|roads?|beside|anew|likest|arms?|told|so many|houses?|rooms?|watchers?|crews?|knows: |does not know)(?![a-z])",
    re.IGNORECASE,
)
"""Words that the project's English replaces: encoder, pipeline, next to, again, most likely, method, count, package, pool. Names too."""

SOURCES = sorted(path for folder in ("omnidrop_cli", "tests", "docs") for path in (ROOT / folder).rglob("*.py"))
ALLOWED = {
    "omnidrop_cli/commands/bench.py": {"towers"},  # the former flag
    "omnidrop_cli/evaluate/items.py": {"arm"},  # the field of version 1
    "omnidrop_cli/evaluate/summary.py": {"arm", "arms"},
    "tests/evaluate/test_summary.py": {"arm", "arms"},
    "omnidrop_cli/nano/world/vocabulary.py": {"house"},  # a picture
    "omnidrop_cli/media/subtitles.py": {"arm"},  # Armenian in ISO 639-2
}


@pytest.mark.parametrize("page", generated.PAGES, ids=lambda page: page.name)
def test_a_generated_page_is_fresh(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == generated.PAGES[page](), "python -m docs.make"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.name)
def test_files_and_modules_exist(page: Path) -> None:
    for span in CODE.findall(page.read_text(encoding="utf-8")):
        if re.fullmatch(r"[\w./-]+\.(py|md|yml|svg)", span):
            assert found(span, page), span
        elif re.fullmatch(r"(omnidrop_cli|tests|docs)(/[\w.-]+)+/?", span):
            assert (ROOT / span).exists(), span
        elif re.fullmatch(r"omnidrop_cli(\.\w+)+", span):
            assert importable(span), span


def found(name: str, page: Path) -> bool:
    """Whether a file of this name or path is in the repository, the package, or the page's folder. Example files of users are not."""
    bases = (ROOT, ROOT / "omnidrop_cli", page.parent)
    return any((base / name).exists() for base in bases) or ("/" not in name and bool(next((ROOT / "omnidrop_cli").rglob(name), None)))


def importable(dotted: str) -> bool:
    """Whether a dotted name is a module or an attribute of one."""
    module, _, attribute = dotted.rpartition(".")
    try:
        importlib.import_module(dotted)
    except ModuleNotFoundError:
        return hasattr(importlib.import_module(module), attribute)
    return True


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.name)
def test_flags_exist(page: Path) -> None:
    training = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "omnidrop_cli" / "nano" / "train").glob("*.py"))
    known = {*FLAG.findall(cli_reference.page()), *FLAG.findall(training), "--help", "--version"}
    for span in CODE.findall(page.read_text(encoding="utf-8")):
        if not OTHER_PROGRAMS.match(span):
            for flag in FLAG.findall(span):
                assert flag in known, f"{flag} in {span!r}"


@pytest.mark.parametrize("page", [page for page in CURRENT if page.name not in ("cli.md", "python-api.md")], ids=lambda page: page.name)
def test_the_english_is_the_projects(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert not [line for line in text.splitlines() if RETIRED.search(CODE.sub("", line))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_english_of_the_sources_is_the_projects(path: Path) -> None:
    if path != Path(__file__):
        text = re.sub(r"audio.tower", "", path.read_text(encoding="utf-8"))  # an attribute of transformers
        assert {match[0].lower() for match in RETIRED.finditer(text)} <= ALLOWED.get(str(path.relative_to(ROOT)), set())


def test_the_site_builds(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-f", "docs/make/mkdocs.yml", "-d", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) >= len(PAGES) - 1
    for page in pages:
        assert not re.search(r'(?:src|<link[^>]* href)="?https?://', page.read_text(encoding="utf-8")), (
            f"{page.name} loads from the network"
        )


def test_every_picture_is_self_contained() -> None:
    for picture in (ROOT / "docs" / "assets").glob("*.svg"):
        assert not re.search(r"url\(|href=", picture.read_text(encoding="utf-8").replace("url(#", "")), picture.name


def test_every_picture_is_small_and_described() -> None:
    for picture in (ROOT / "docs" / "assets").iterdir():
        assert picture.stat().st_size < 200_000, picture.name
        link = re.compile(r"!\[([^\]]*)\]\([^)]*" + re.escape(picture.name))
        shown = [text for page in CURRENT for text in link.findall(page.read_text(encoding="utf-8"))]
        assert shown, f"no page shows {picture.name}"
        assert all(len(text) >= 40 for text in shown), f"{picture.name} needs a description"


def test_the_tree_in_the_readme_is_true() -> None:
    tree = re.search(r"## The source tree\n\n```\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert tree is not None
    columns = [line.strip().split("   ")[0] for line in tree[1].splitlines()[1:]]
    named = {name.rstrip("/") for column in columns for name in re.findall(r"[\w.]+(?:/|\.py)", column)}
    packages = {path.name for path in (ROOT / "omnidrop_cli").iterdir() if (path / "__init__.py").exists()}
    assert packages <= named
    assert all((ROOT / "omnidrop_cli" / name).exists() for name in named)


def test_nothing_is_installed_from_a_registry_that_does_not_have_it() -> None:
    """The package is not published, so `pip install omnidrop-cli[ray]` fails: hints name the requirement itself."""
    sources = [*PAGES, *(ROOT / "omnidrop_cli").rglob("*.py")]
    assert not [str(path) for path in sources if re.search(r"pip install [^\n]*omnidrop-cli", path.read_text(encoding="utf-8"))]


def test_sources_cite_pages_that_exist() -> None:
    """A docstring names a page by its path, as docs/concepts/methods.md; sections have no numbers."""
    for path in (ROOT / "omnidrop_cli").rglob("*.py"):
        for page in re.findall(r"[\w./-]+\.md\b", path.read_text(encoding="utf-8")):
            assert page.startswith("docs/") is (ROOT / page).exists() or page in ("answers.md", ".md"), f"{path}: {page}"


def test_the_changelog_has_a_place_for_what_is_new() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
