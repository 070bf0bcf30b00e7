"""Mutation testing: changes one operator, number or call of omnidrop_cli at a time and runs the tests that run the changed line.

`python -m tests.benchmarks.mutate prompt --count 40 --seed 1 --lines lines/` prints what became of every mutant of a random sample, as
JSON lines. `lines/` says which test runs which line (`tests.benchmarks.lines_of_tests`). A mutant lives in a copy of the tree; libraries
are imported once, and every mutant is a fork of that process. Tests of the changed line come first, those of its file's name before the
others; then, for mutants that survive, tests that run anything of the file.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.benchmarks.lines_of_tests import Lines

ROOT = Path(__file__).parents[2]
LIBRARIES = ("numpy", "torch", "transformers", "transformers.models.qwen2_5_omni.modeling_qwen2_5_omni", "accelerate", "safetensors.torch")
LIBRARIES += ("av", "typer.testing", "rich", "hypothesis", "pytest", "pytest_asyncio")
LEAST_S = 45.0
"""The least time of a run of tests. Otherwise it has four times what was recorded. After that it hangs, which counts as killed."""
NO_TESTS = 5
"""pytest's exit code where none of the recorded tests is left."""
RINGS_S = (6.0, 24.0, 45.0)
"""Recorded seconds of the tests that are tried first, of those that only survivors of these meet, and of the last."""

_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Break: ast.Continue,
    ast.Continue: ast.Break,
}
_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """Change number `number` of the changes that `_sites` yields for `file`, in the statement that begins at `line`."""

    file: Path
    number: int
    line: int

    @cached_property
    def source(self) -> tuple[str, str]:
        """(source of the mutant, the changed line before and after)."""
        tree = ast.parse((ROOT / self.file).read_text(encoding="utf-8"))
        before = ast.unparse(tree)
        next(change for i, (_, change) in enumerate(_sites(tree)) if i == self.number)()
        after = ast.unparse(ast.fix_missing_locations(tree))
        lines = [f"{a.strip()}  ->  {b.strip()}" for a, b in zip(before.splitlines(), after.splitlines(), strict=False) if a != b]
        return after, lines[0] if lines else ""


def _sites(tree: ast.AST) -> Iterator[tuple[Any, Callable[[], None]]]:
    """(node, function that changes it in place) in the order of the source."""
    for node in _code(tree):
        if isinstance(node, ast.Compare):
            yield from ((node, lambda n=node, i=i: n.ops.__setitem__(i, _SWAPS[type(n.ops[i])]())) for i in range(len(node.ops)))
        elif isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(node.op) in _SWAPS:
            if not (isinstance(node, ast.BinOp) and isinstance(node.left, (ast.Constant, ast.JoinedStr)) and _is_text(node.left)):
                yield node, lambda n=node: setattr(n, "op", _SWAPS[type(n.op)]())
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield node, lambda n=node: setattr(n, "value", not n.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            yield node, lambda n=node: setattr(n, "value", n.value + 1)
        elif isinstance(node, (ast.If, ast.IfExp, ast.While)) and isinstance(node.test, (ast.Name, ast.Attribute, ast.Call, ast.UnaryOp)):
            yield node, lambda n=node: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CALLS:
            yield node, lambda n=node: setattr(n.func, "id", _CALLS[n.func.id])
        for name in ("body", "orelse"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                for i, statement in enumerate(block):
                    if isinstance(statement, (ast.Break, ast.Continue)):
                        yield statement, lambda b=block, i=i: b.__setitem__(i, ast.copy_location(_SWAPS[type(b[i])](), b[i]))
                    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
                        yield statement, lambda b=block, i=i: b.__setitem__(i, ast.copy_location(ast.Pass(), b[i]))


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that do something: no annotations, decorators, messages of errors, `strict=`, code for type checkers, or format strings."""
    yield node
    skipped = {"annotation", "returns", "decorator_list"}
    if isinstance(node, (ast.Raise, ast.JoinedStr)):
        skipped |= {"exc", "cause", "values"}
    for name, value in ast.iter_fields(node):
        for child in (value if isinstance(value, list) else [value]) if name not in skipped else []:
            for_types = isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"
            if isinstance(child, ast.AST) and not for_types and not (isinstance(child, ast.keyword) and child.arg == "strict"):
                yield from _code(child)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def choose(targets: Iterable[str], count: int, seed: int) -> list[Mutant]:
    """A random sample of the mutants of folders and files of omnidrop_cli, the same for the same seed and sources."""
    paths = [ROOT / "omnidrop_cli" / target for target in targets]
    files = sorted({file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])})
    found = []
    for file in files:
        sites = enumerate(_sites(ast.parse(file.read_text(encoding="utf-8"))))
        found += [Mutant(file.relative_to(ROOT), number, node.lineno) for number, (node, _) in sites]
    return random.Random(seed).sample(found, min(count, len(found)))


class Choice:
    """The tests for a mutant, from a record of what every test runs."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self.broken: set[str] = set()
        """Tests that fail without a mutant; they are left out."""

    def rings(self, mutant: Mutant) -> Iterator[list[str]]:
        """Tests of the changed line: those of the file's name first, then its package's, then others, the shortest first. In the last
        ring, those in the same test files, and those that run anything of the changed file."""
        of_line = self._of_line(mutant)
        of_file = {test for tests in self._lines.tests[mutant.file.as_posix()].values() for test in tests}
        files = {test.partition("::")[0] for test in of_line or of_file}  # what only child processes run has no recorded test
        of_file |= {test for test in self._lines.seconds if test.partition("::")[0] in files}
        tried: set[str] = set()
        for limit_s, tests in zip(RINGS_S, (of_line, of_line, of_file), strict=True):
            ring = self._first(tests - tried, mutant.file, limit_s)
            tried |= set(ring)
            yield ring

    def seconds(self, tests: Iterable[str]) -> float:
        """The recorded time of tests."""
        return sum(self._lines.seconds.get(test, 0.0) for test in tests)

    def _first(self, tests: set[str], file: Path, limit_s: float) -> list[str]:
        def order(test: str) -> tuple[bool, bool, float]:
            path = Path(test.partition("::")[0])
            return path.stem != f"test_{file.stem}", path.parent.name != file.parts[1], self._lines.seconds[test]

        chosen: list[str] = []
        known = (tests & self._lines.seconds.keys()) - self.broken
        for test in sorted((test for test in known if (ROOT / test.partition("::")[0]).exists()), key=order):
            limit_s -= self._lines.seconds[test]
            if limit_s > 0:
                chosen.append(test)
        return chosen

    def _of_line(self, mutant: Mutant) -> set[str]:
        """Tests that run the changed statement. For one that only imports run: those of the function it is a default of, or of its name."""
        text = (ROOT / mutant.file).read_text(encoding="utf-8")
        runs = self._lines.tests[mutant.file.as_posix()]
        around = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.stmt) and n.lineno <= mutant.line <= (n.end_lineno or 0)]
        statement: Any = max(around, key=lambda n: n.lineno)
        first, last = statement.lineno, statement.end_lineno
        if getattr(statement, "body", None) and not isinstance(statement, ast.FunctionDef):
            last = max(first, statement.body[0].lineno - 1)
        found = {test for line in range(first, last + 1) for test in runs.get(line, ())}
        if found or not isinstance(statement, (ast.Assign, ast.AnnAssign)):
            return found
        target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
        name = re.compile(rf"\b{re.escape(ast.unparse(target))}\b")
        for file, lines in self._lines.tests.items():
            if (ROOT / file).exists():
                for number, line in enumerate((ROOT / file).read_text(encoding="utf-8").splitlines(), 1):
                    if name.search(line):
                        found |= lines.get(number, set())
        return found


class Picker:
    """A pytest plugin: runs the given tests only, in the given order of files, with clips that later sessions find again."""

    def __init__(self, tests: list[str], clips: Path) -> None:
        self._order = {test: number for number, test in enumerate(tests)}
        files = dict.fromkeys(test.partition("::")[0] for test in tests)
        self._files = {file: number for number, file in enumerate(files)}
        self._clips = clips

    def pytest_configure(self) -> None:
        """Clips are made by encoders, not by omnidrop_cli, so that no mutant changes them."""
        from tests import clips

        def shared(_: Any, name: str) -> Path:
            folder, note = self._clips / name, self._clips / f"{name}.path"
            if not note.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                note.write_text(str(clips.RECIPES[name](folder)), encoding="utf-8")
            return Path(note.read_text(encoding="utf-8"))

        clips.Clips.__getitem__ = shared  # type: ignore[method-assign]

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        chosen = [item for item in items if item.nodeid in self._order]
        items[:] = sorted(chosen, key=lambda item: (self._files[item.nodeid.partition("::")[0]], self._order[item.nodeid]))


class Forks:
    """Runs pytest in forks of this process, in a copy of the tree."""

    def __init__(self, folder: Path, choice: Choice) -> None:
        self._tree, self._clips, self._choice = folder / "tree", folder / "clips", choice
        self._sound: set[str] = set()
        shutil.copytree(ROOT, self._tree, ignore=shutil.ignore_patterns(".git", "__pycache__", ".*_cache"))
        self._clips.mkdir()
        os.environ |= {"PYTHONPATH": str(self._tree), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        for name in LIBRARIES:
            try:
                importlib.import_module(name)
            except ImportError:
                continue

    def try_out(self, mutant: Mutant) -> str:
        """ "survived", or what killed: the first failing test, or "hang"."""
        file = self._tree / mutant.file
        before = file.read_bytes()
        for ring in self._choice.rings(mutant):
            while tests := [test for test in ring if test not in self._choice.broken]:
                file.write_text(mutant.source[0], encoding="utf-8")
                try:
                    verdict = self._run(tests)
                finally:
                    file.write_bytes(before)
                if verdict == "survived":
                    break
                if verdict == "hang":
                    if self._run(tests) != "hang":
                        return verdict
                    break  # the machine is too busy for these tests
                if self._is_sound(verdict):
                    return verdict
                self._choice.broken.add(verdict)
        return "survived"

    def _is_sound(self, test: str) -> bool:
        """Whether a test that failed passes without a mutant. What is no test (a failing import) is not asked again."""
        if "::" not in test or test in self._sound:
            return True
        if self._run([test]) == "survived":
            self._sound.add(test)
            return True
        return False

    def _run(self, tests: list[str]) -> str:
        said = self._tree.parent / "said.txt"
        child = os.fork()
        if child == 0:
            self._child(tests, said)
        deadline = time.monotonic() + max(LEAST_S, 4 * self._choice.seconds(tests))
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                if os.waitstatus_to_exitcode(status) in (0, NO_TESTS):
                    return "survived"
                found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", said.read_text(errors="replace"), flags=re.MULTILINE)
                return found[1] if found else "does not run"
            time.sleep(0.05)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return "hang"

    def _child(self, tests: list[str], said: Path) -> None:
        os.setpgid(0, 0)
        os.chdir(self._tree)
        descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        for name in [name for name in sys.modules if name.partition(".")[0] in ("omnidrop_cli", "tests")]:
            del sys.modules[name]
        sys.path[:] = [str(self._tree), *(path for path in sys.path if Path(path or ".").resolve() != ROOT)]
        sys.dont_write_bytecode = True
        import pytest

        files = dict.fromkeys(test.partition("::")[0] for test in tests)
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--tb=no", *files], plugins=[Picker(tests, self._clips)])
        sys.stdout.flush()
        os._exit(int(code))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="+", help="folders or files of omnidrop_cli, such as prompt or jsonl.py")
    parser.add_argument("--lines", type=Path, required=True, help="the record of tests.benchmarks.lines_of_tests")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--skip", type=int, default=0, help="leave out the first of the sample, which an earlier run tried")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no mutant after this time")
    options = parser.parse_args()
    sample = choose(options.targets, options.count, options.seed)[options.skip :]
    verdicts: Counter[str] = Counter()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="omnidrop-mutants-") as folder:
        forks = Forks(Path(folder), Choice(Lines.read(options.lines)))
        for mutant in sample:
            if time.monotonic() - started > options.seconds:
                break
            began, verdict = time.monotonic(), forks.try_out(mutant)
            verdicts["survived" if verdict == "survived" else "killed"] += 1
            said = {"where": f"{mutant.file}:{mutant.line}", "what": mutant.source[1], "verdict": verdict}
            print(json.dumps(said | {"seconds": round(time.monotonic() - began, 1)}), flush=True)
    print(json.dumps({"targets": options.targets, "seed": options.seed, **verdicts}))


if __name__ == "__main__":
    main()
