"""Mutation testing: changes one operator or number of a package at a time and runs the tests nearest to it.

`python -m tests.benchmarks.mutate prompt --count 60 --seed 1` prints what became of every mutant of a random sample, as JSON lines. A
mutant lives in a copy of the tree; libraries are imported once, and every mutant is a fork of that process.
"""

from __future__ import annotations

import argparse
import ast
import copy
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIBRARIES = ("numpy", "torch", "transformers", "transformers.models.qwen2_5_omni.modeling_qwen2_5_omni", "accelerate", "safetensors.torch")
LIBRARIES += ("av", "typer.testing", "rich", "hypothesis", "pytest", "pytest_asyncio")
LEAST_S = 90.0
"""A mutant has at least so long, and three times as long as the unchanged code; then it hangs, which counts as killed."""

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
    """Change number `number` of the changes that `variants` yields for `file`; `where` and `what` are for people."""

    file: Path
    number: int
    where: str
    what: str


def variants(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.Module]]:
    """(changed node, changed tree) for every change of a module. Texts, annotations and messages of errors stay."""
    count = sum(1 for _ in _sites(tree))
    for number in range(count):
        changed = copy.deepcopy(tree)
        node, change = next(site for i, site in enumerate(_sites(changed)) if i == number)
        change()
        yield node, changed


def _sites(tree: ast.AST):  # type: ignore[no-untyped-def]
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
    """The nodes that do something: no annotations, decorators, messages of errors, code for type checkers only, or format strings."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list") or (
            isinstance(node, (ast.Raise, ast.JoinedStr, ast.AnnAssign))
            and name
            in (
                "exc",
                "cause",
                "values",
                "annotation",
            )
        ):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.AST):
                yield from _code(child)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def choose(package: str, count: int, seed: int) -> list[Mutant]:
    """A random sample of the mutants of a package, the same for the same seed and sources."""
    found = []
    for file in sorted((ROOT / "omnidrop_cli" / package).rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for number, (node, _) in enumerate(_sites(tree)):
            line = getattr(node, "lineno", 0)
            found.append(Mutant(file.relative_to(ROOT), number, f"{file.relative_to(ROOT)}:{line}", ""))
    return random.Random(seed).sample(found, min(count, len(found)))


def mutated(mutant: Mutant) -> tuple[str, str]:
    """(source of the mutant, the changed line before and after)."""
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    tree = ast.parse(text)
    node, changed = next(pair for i, pair in enumerate(variants(tree)) if i == mutant.number)
    before, after = ast.unparse(tree).splitlines(), ast.unparse(changed).splitlines()
    lines = [f"{a.strip()}  ->  {b.strip()}" for a, b in zip(before, after, strict=False) if a != b]
    del node
    return ast.unparse(changed), lines[0] if lines else ""


WHOLE = {"media": ("test_cases", "test_clip"), "prompt": ("test_golden_prompts",), "prune": ("test_methods",), "engine": ("test_session",)}
"""The tests that run a package as a whole; they come last."""


def nearest(file: Path) -> list[str]:
    """Test files for a module: that of its name, the three shortest that import it, in its package if possible, and the package's own."""
    package, module = ".".join(file.parent.parts), file.stem
    folder = ROOT / "tests" / file.parts[1]
    pattern = re.compile(rf"from {re.escape(package)}\.{module} import|from {re.escape(package)} import [^\n]*\b{module}\b")
    users = [path for path in (ROOT / "tests").rglob("test_*.py") if pattern.search(path.read_text(encoding="utf-8"))]
    users = [path for path in users if path.parent == folder] or users
    whole = [folder / f"{name}.py" for name in WHOLE.get(file.parts[1], ())]
    ordered = dict.fromkeys([folder / f"test_{module}.py", *sorted(users, key=lambda path: path.stat().st_size)[:3], *whole])
    return [path.relative_to(ROOT).as_posix() for path in ordered if path.exists() and path.stem not in ("test_fuzz", "test_crash")]


class Forks:
    """Runs pytest in forks of this process, in a copy of the tree."""

    def __init__(self, folder: Path) -> None:
        self._tree = folder / "tree"
        shutil.copytree(ROOT, self._tree, ignore=shutil.ignore_patterns(".git", "__pycache__", ".*_cache"))
        os.environ |= {"PYTHONPATH": str(self._tree), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        for name in LIBRARIES:
            try:
                importlib.import_module(name)
            except ImportError:
                continue

    def run(self, tests: list[str], limit_s: float) -> str:
        """ "survived", or what killed: the first failing test, or "hang"."""
        said = self._tree.parent / "said.txt"
        child = os.fork()
        if child == 0:
            self._child(tests, said)
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                if os.waitstatus_to_exitcode(status) == 0:
                    return "survived"
                found = re.search(r"^(?:FAILED|ERROR) (\S+)", said.read_text(errors="replace"), flags=re.MULTILINE)
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

        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--tb=no", *tests])
        sys.stdout.flush()
        os._exit(int(code))

    def try_out(self, mutant: Mutant, limit_s: float) -> tuple[str, str]:
        """(what happened, the changed line)."""
        source, what = mutated(mutant)
        file = self._tree / mutant.file
        before = file.read_bytes()
        file.write_text(source, encoding="utf-8")
        try:
            return self.run(nearest(mutant.file), limit_s), what
        finally:
            file.write_bytes(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no mutant after this time")
    options = parser.parse_args()
    sample = choose(options.package, options.count, options.seed)
    verdicts: Counter[str] = Counter()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="omnidrop-mutants-") as folder:
        forks = Forks(Path(folder))
        tests = sorted({test for mutant in sample for test in nearest(mutant.file)})
        print(json.dumps({"unchanged": forks.run(tests, 1800), "tests": len(tests), "seconds": time.monotonic() - started}), flush=True)
        limit_s = max(LEAST_S, 3 * (time.monotonic() - started))
        for mutant in sample:
            if time.monotonic() - started > options.seconds:
                break
            verdict, what = forks.try_out(mutant, limit_s)
            verdicts["survived" if verdict == "survived" else "killed"] += 1
            print(json.dumps({"where": mutant.where, "what": what, "verdict": verdict}), flush=True)
    print(json.dumps({"package": options.package, "seed": options.seed, **verdicts}))


if __name__ == "__main__":
    main()
