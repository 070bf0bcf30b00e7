"""What a run of the program came to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).parent.parent.parent


class Done(NamedTuple):
    code: int
    out: str
    err: str
    error: BaseException | None = None


def program(*arguments: str, plan: dict[str, Any] | None = None) -> list[str]:
    """The command line of a process of its own; with a plan, on the fake pipeline."""
    if plan is None:
        return [sys.executable, "-m", "omnidrop_cli", *arguments]
    return [sys.executable, "-m", "tests.commands.fake_pipeline", json.dumps(plan), *arguments]


def environment(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}  # it would hide a missing flush
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))  # packages may be carried in a folder
    return {**inherited, "PYTHONPATH": path, "COLUMNS": "80", **more}


def run(*arguments: str, plan: dict[str, Any] | None = None, stdin: str | None = None, cwd: Path | None = None, **variables: str) -> Done:
    done = subprocess.run(
        program(*arguments, plan=plan),
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=240,
        env=environment(**variables),
        cwd=cwd,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)
