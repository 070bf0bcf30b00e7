"""How much a reader has to read: lines, functions, names, import circles, and the files that run for one `ask`.

    python -m tests.benchmarks.readability                 the sources
    python -m tests.benchmarks.readability --trace         also one `ask demo` on nano, traced (half a minute)
    python -m tests.benchmarks.readability --root CHECKOUT the same of another checkout, for a comparison

Input: a checkout. Output: one table on stdout.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "omnidrop_cli"
NANO = ("nano/world", "nano/train")
_EMPTY = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


@dataclass(frozen=True, slots=True)
class Function:
    """A function or method: its file, lines including the decorated body, and parameters without `self` or `cls`."""

    file: str
    name: str
    lines: int
    parameters: int


def files(root: Path = ROOT) -> dict[str, int]:
    """Path inside the package → lines."""
    package = root / PACKAGE
    return {str(path.relative_to(package)): len(path.read_text("utf-8").splitlines()) for path in sorted(package.rglob("*.py"))}


def lines_of_code(root: Path, file: str) -> int:
    """Lines of a file that hold more than docstrings, comments and blanks. A string that stands alone documents what is above it."""
    tree = _tree(root, file)
    prose = [one for one in ast.walk(tree) if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)]
    left_out = {line for one in prose if isinstance(one.value.value, str) for line in range(one.lineno, (one.end_lineno or 0) + 1)}
    text = (root / PACKAGE / file).read_text("utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    held = {line for token in tokens if token.type not in _EMPTY for line in range(token.start[0], token.end[0] + 1)}
    return len(held - left_out)


def functions(root: Path = ROOT) -> list[Function]:
    """Every function of the package."""
    found = []
    for file in files(root):
        for node in ast.walk(_tree(root, file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                names += [one.arg for one in (node.args.vararg, node.args.kwarg) if one is not None]
                own = len(names) - (names[:1] in (["self"], ["cls"]))
                found.append(Function(file, node.name, (node.end_lineno or 0) - node.lineno + 1, own))
    return found


def lines_of_subpackages(root: Path = ROOT) -> dict[str, int]:
    """Subpackage → lines; nano's two parts apart, top-level modules together."""
    counts: Counter[str] = Counter()
    for file, lines in files(root).items():
        parts = Path(file).parts
        counts["(top)" if len(parts) == 1 else "/".join(parts[:2]) if parts[0] == "nano" and len(parts) > 2 else parts[0]] += lines
    counts.pop("nano", None)  # an empty __init__.py
    return dict(sorted(counts.items()))


def duplicated_names(root: Path = ROOT) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Module and class names that stand in several files. A command's file is named by its command and does not count."""
    modules: dict[str, list[str]] = {}
    classes: dict[str, list[str]] = {}
    for file in files(root):
        path = Path(file)
        if path.parts[0] != "commands" and not path.stem.startswith("__"):
            modules.setdefault(path.stem, []).append(file)
        for node in _tree(root, file).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes.setdefault(node.name, []).append(file)
    return _several(modules), _several(classes)


def circles_of_imports(root: Path = ROOT) -> int:
    """Modules that can be reached from themselves along imports, those inside functions and for types included."""
    modules = {_module(file) for file in files(root)}
    edges: dict[str, set[str]] = {module: set() for module in modules}
    for file in files(root):
        for node in ast.walk(_tree(root, file)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE:
                named = {f"{node.module}.{alias.name}" for alias in node.names} & modules
                edges[_module(file)] |= (named or ({node.module} & modules)) - {PACKAGE}
    return sum(module in _reached(edges, module) for module in modules)


def traced(root: Path = ROOT) -> dict[str, int]:
    """Files of the package with a function that ran for `ask demo` on nano, and calls from one file into another (distinct pairs)."""
    script = (
        "import json, os, sys, threading\n"
        "from omnidrop_cli.cli import build\n"
        "home, files, hops = os.path.abspath('omnidrop_cli') + os.sep, set(), set()\n"
        "def seen(frame, event, argument):\n"
        "    if event == 'call' and (there := frame.f_code.co_filename).startswith(home) and frame.f_code.co_name != '<module>':\n"
        "        files.add(there)\n"
        "        if (caller := frame.f_back) is not None and caller.f_code.co_filename.startswith(home):\n"
        "            hops.add((caller.f_code.co_filename, there))\n"
        "threading.setprofile(seen); sys.setprofile(seen)\n"
        "try:\n"
        "    build()(['ask', 'demo', 'What is said?', '--model', 'nano', '--quiet'])\n"
        "except SystemExit:\n"
        "    pass\n"
        "sys.setprofile(None)\n"
        "print(json.dumps({'files': len(files), 'hops': len({hop for hop in hops if hop[0] != hop[1]})}))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True, env=_environment(root))
    counts: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return counts


def summary(root: Path, trace: bool) -> dict[str, int | str]:
    """The rows of the table."""
    lines, found = lines_of_subpackages(root), functions(root)
    modules, classes = duplicated_names(root)
    counted = {name: count for name, count in lines.items() if name not in NANO}
    code = sum(lines_of_code(root, file) for file in files(root) if not file.startswith("nano/"))
    longest, most = max(found, key=lambda one: one.lines), max(found, key=lambda one: one.parameters)
    rows: dict[str, int | str] = {
        "lines without nano/world and nano/train": sum(counted.values()),
        "of those without docstrings, comments and blanks": code,
        "files": len(files(root)),
        "median lines of a file": sorted(files(root).values())[len(files(root)) // 2],
        "longest function": f"{longest.lines} ({longest.file}:{longest.name})",
        "functions over 50 lines": sum(one.lines > 50 for one in found),
        "most parameters": f"{most.parameters} ({most.file}:{most.name})",
        "functions with more than 8 parameters": sum(one.parameters > 8 for one in found),
        "module names used twice": len(modules),
        "class names used twice": len(classes),
        "modules on an import circle": circles_of_imports(root),
    }
    if trace:
        rows |= {f"{name} run for `ask demo`": count for name, count in traced(root).items()}
    return rows


def _tree(root: Path, file: str) -> ast.Module:
    return ast.parse((root / PACKAGE / file).read_text("utf-8"))


def _module(file: str) -> str:
    return ".".join((PACKAGE, *Path(file).with_suffix("").parts)).removesuffix(".__init__")


def _several(names: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {name: found for name, found in names.items() if len(found) > 1}


def _reached(edges: Mapping[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    left = [*edges[start]]
    while left:
        module = left.pop()
        if module not in reached:
            reached.add(module)
            left += edges[module]
    return reached


def _environment(root: Path) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(root)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--root", type=Path, default=ROOT)
    parser.add_argument("--trace", action="store_true")
    arguments = parser.parse_args()
    for name, value in summary(arguments.root.resolve(), arguments.trace).items():
        print(f"| {name} | {value} |")
    for name, lines in lines_of_subpackages(arguments.root.resolve()).items():
        print(f"| {name} | {lines} |")


if __name__ == "__main__":
    main()
