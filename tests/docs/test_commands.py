"""Every command in the documentation runs with the built-in model, or says why not and has arguments that exist."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from omnidrop_cli.cli import build
from omnidrop_cli.media.source import BUNDLED
from tests.docs.blocks import LOG, PAGES, TITLES, Command, blocks, commands

ELSEWHERE = {
    "pip": "the environment of this test was made so; .ci/run does it on a bare machine",
    "git": "needs the address of the repository",
    "cd": "follows git clone",
    "mypy": ".ci/run",
    "ruff": ".ci/run",
    "mkdocs": "tests/test_docs.py builds the site",
    "python -m pytest": ".ci/run",
    "python -m tests.compat": "makes environments; .ci/run runs it with the lowest versions",
    "python -m docs.make": "tests/test_docs.py compares its pages with the committed ones",
}
"""Commands that another check runs, by their first words."""

CLIPS = ("talk.mp4", "clip.mp4", "a.mp4", "b.mp4", "interviews/one.mp4", "recordings/one.mp4", "talks/2024/one.mp4", "clips/one.mp4")
FILES = {
    "questions.jsonl": json.dumps({"media": "a.mp4", "question": "Is the rocket shown?", "id": "q-17"}) + "\n",
    "questions.txt": "What is said?\nWhat is shown?\n",
}
"""What the pages take as given."""

WITH_COMMANDS = [page for page in PAGES if page != LOG and blocks(page, "console")]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the clips and files that the pages name."""
    for name in CLIPS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(BUNDLED / "demo.mp4", tmp_path / name)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMNIDROP_MODEL", "nano")
    return tmp_path


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.stem)
def test_the_commands_of_a_page_run(page: Path, workplace: Path) -> None:
    app = build()
    if "saved.json" in page.read_text(encoding="utf-8"):
        from omnidrop_cli import history, load
        from omnidrop_cli.report.json import to_dict

        report = load("nano").ask("demo", "What is said?")
        Path("saved.json").write_text(json.dumps(to_dict(report, kept=True)))
        history.add(to_dict(report))
    for block in blocks(page, "console"):
        if block.title:
            continue
        for command in commands(block.text):
            if not any(" ".join(command.words).startswith(words) for words in ELSEWHERE):
                run(app, command, f"{page.name}:{block.line}")


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.stem)
def test_a_command_that_does_not_run_here_has_a_reason_and_arguments_that_exist(page: Path) -> None:
    root: Any = typer.main.get_command(build())
    for block in blocks(page, "console"):
        assert block.title in TITLES | {""}, f"{page.name}:{block.line}"
        for command in commands(block.text) if block.title else ():
            if command.is_omnidrop:
                parse(root, command.arguments)


def run(app: typer.Typer, command: Command, where: str) -> str:
    """Run a command and what is piped into it.

    Returns:
        Its standard output.
    """
    # Bytes: what is piped may be a clip.
    given = run(app, command.piped, where).encode() if command.piped else Path(command.stdin).read_bytes() if command.stdin else None
    if command.is_omnidrop:
        answered = CliRunner().invoke(app, command.arguments, input=given)
        assert answered.exit_code == 0, f"{where}: {' '.join(command.words)}\n{answered.output}\n{answered.exception!r}"
        text = answered.stdout
    else:
        done = subprocess.run(command.words, input=given, capture_output=True, check=False)
        assert done.returncode == 0, f"{where}: {' '.join(command.words)}\n{done.stderr.decode()}"
        text = done.stdout.decode()
    if command.stdout:
        Path(command.stdout).write_text(text)
    return text


def parse(root: Any, arguments: list[str]) -> None:
    """Read a command line without running it. Raises click's usage errors."""
    context = root.make_context("omnidrop", list(arguments), resilient_parsing=False)
    command, rest = context.command, [*context._protected_args, *context.args]
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
        rest = [*getattr(context, "_protected_args", []), *context.args]
