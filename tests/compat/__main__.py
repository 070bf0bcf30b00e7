"""Run tests/compat under other versions of the dependencies, and print a table of the results.

    python -m tests.compat                  every tested transformers, over this environment's other packages
    python -m tests.compat 5.25.0 5.25.1    these
    python -m tests.compat --lowest         an environment of its own with the lowest version of every dependency
    python -m tests.compat --newest         one with the newest versions that pyproject.toml allows
    python -m tests.compat --record         write golden.json again instead

Environments stay in .compat/ for the next run; `--fresh` makes them again.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from omnidrop_cli.model.self_check import TESTED

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / ".compat"

TORCH = "torch==2.13.0"
"""Instead of the lowest and the newest torch: of this version alone pip has a CPU build on some machines, others take gigabytes."""

TEST_TOOLS = ("pytest", "pytest-timeout", "hypothesis", "pillow")

SUITE = ("tests/compat",)
WIDE = (
    *SUITE,
    *("tests/model", "tests/prompt/test_golden_prompts.py", "tests/prompt/test_mel.py", "tests/prompt/test_patches.py"),
    *("tests/prompt/test_chat_template.py", "tests/prompt/test_spec.py", "tests/prune/test_generate_hook.py"),
    *("tests/engine/test_encode.py", "tests/engine/test_prefill.py", "tests/engine/test_decode_step.py"),
)
"""What `--wide` runs: all tests that touch transformers, except those that hold the prompt against its newest processor."""


@dataclass(frozen=True)
class Result:
    """How the tests of one environment ended; `counts` is pytest's last line."""

    name: str
    code: int
    counts: str


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.compat", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("versions", nargs="*", help="transformers versions")
    for flag in ("--lowest", "--newest", "--record", "--fresh", "--wide"):
        parser.add_argument(flag, action="store_true")
    options = parser.parse_args()
    if options.record:
        from tests.compat.test_nano import record

        record()
        return 0
    if options.fresh:
        shutil.rmtree(FOLDER, ignore_errors=True)
    suite = WIDE if options.wide else SUITE
    results = []
    if options.lowest:
        results.append(run("lowest", *own_environment("lowest", lowest()), suite))
    if options.newest:
        results.append(run("newest", *own_environment("newest", newest()), suite))
    if not (options.lowest or options.newest) or options.versions:
        results += [run(version, *overlay(version), suite) for version in options.versions or TESTED]
    for result in results:
        print(f"{result.name:10} {'ok' if result.code == 0 else 'FAILED':8} {result.counts}")
    return max(result.code for result in results)


def run(name: str, python: Path, path: str, suite: tuple[str, ...]) -> Result:
    """Run the tests by `python` with `path` as PYTHONPATH."""
    print(f"== {name}", flush=True)
    command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", "--color=no", *suite]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, text=True, capture_output=True, check=False)
    if done.returncode:
        print(done.stdout[-8000:], done.stderr[-2000:], flush=True)
    lines = [line for line in done.stdout.splitlines() if re.search(r"\d+ (passed|failed|error)", line)]
    return Result(name, done.returncode, lines[-1].strip("= ") if lines else "no tests ran")


def overlay(version: str) -> tuple[Path, str]:
    """This environment with another transformers and what it needs in front, unpacked into a folder of its own."""
    folder = FOLDER / version
    if not (folder / "transformers").is_dir():
        install(Path(sys.executable), "--target", str(folder), f"transformers=={version}")
    return Path(sys.executable), os.pathsep.join((str(folder), str(ROOT)))


def own_environment(name: str, requirements: list[str]) -> tuple[Path, str]:
    """A virtual environment with `requirements` and the test tools."""
    folder = FOLDER / name
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        install(python, TORCH)
        install(python, *requirements, *TEST_TOOLS)
        (folder / "complete").touch()
    return python, str(ROOT)


def install(python: Path, *arguments: str) -> None:
    subprocess.run([str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", *arguments], check=True)


def lowest() -> list[str]:
    """Every direct dependency at its lower bound."""
    pinned = []
    for requirement in dependencies():
        least = next((bound.version for bound in requirement.specifier if bound.operator == ">="), None)
        extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
        pinned.append(f"{requirement.name}{extras}=={least}" if least else str(requirement))
    return pinned


def newest() -> list[str]:
    return [str(requirement) for requirement in dependencies()]


def dependencies() -> list[Requirement]:
    """The dependencies in pyproject.toml that apply here, without torch."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [Requirement(line) for line in project["dependencies"]]
    return [one for one in found if one.name != "torch" and (one.marker is None or one.marker.evaluate())]


if __name__ == "__main__":
    sys.exit(main())
