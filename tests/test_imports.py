"""Who may import whom, read from the sources, and what the program imports before it has work to do."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import omnidrop_cli

ROOT = Path(omnidrop_cli.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

BASE = {
    "config",
    "outputs",
    "tokens",
    "errors",
    "events",
    "paths",
    "suggest",
    "fileio",
    "in_use",
    "json_schema",
    "jsonl",
    "options",
    "stdin",
}
STEPS = BASE | {"media", "prompt", "model", "prune", "kernels"}
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": BASE | {"engine", "prune", "suggest"},
    "__main__": {"cli"},
    "config": {"errors", "json_schema", "options"},
    "json_schema": {"errors"},
    "options": {"errors", "suggest"},
    "outputs": {"config", "tokens"},
    "tokens": set(),
    "errors": set(),
    "events": set(),
    "paths": set(),
    "suggest": set(),
    "stdin": {"errors"},
    "settings": {"config", "options", "errors", "paths", "suggest", "jsonl"},
    "media": BASE,
    "prompt": BASE,
    "kernels": set(),
    "model": BASE | {"prompt", "kernels"},
    "prune": BASE | {"model", "kernels"},
    "in_use": set(),
    "history": BASE,
    "cache": BASE | {"media", "model"},
    "request": {"config", "errors", "options", "suggest"},
    "engine": STEPS | {"request"},
    "report": {"config", "options", "errors", "outputs", "tokens"},
    "fileio": {"errors"},
    "jsonl": {"errors", "fileio", "report"},
    "nano": set(),
    "nano.world": BASE,
    "nano.train": BASE | {"nano.world", "evaluate", "prompt", "model", "prune"},
    "batch": STEPS | {"engine", "report"},
    "figure": {"errors", "fileio"},
    "evaluate": STEPS | {"engine", "report", "nano.world", "figure"},
    "bench": STEPS | {"engine", "report", "figure"},
    "explain": STEPS | {"engine", "report", "fileio", "__init__"},
    "commands": STEPS
    | {"cache", "history", "settings", "engine", "report", "batch", "evaluate", "bench", "explain", "nano.world", "figure"},
    "cli": {"commands", "settings", "errors"},
}
"""Subpackage (or top-level module) -> what it may import. cli -> commands -> batch, evaluate -> engine -> the steps; never back."""

BEYOND_A_METHOD = {"generate_hook"}
"""What a method never sees of its own subpackage: how layers are hooked, and what a model is made of."""

HEAVY = {"torch", "transformers", "bitsandbytes", "accelerate", "av", "soundfile", "yt_dlp", "huggingface_hub", "safetensors"}
LIGHT = BASE | {"cache", "history", "settings", "cli", "commands", "report", "media"}
"""Subpackages whose modules import nothing heavy at the top."""


class Import(NamedTuple):
    file: Path
    line: int
    module: str
    at_top: bool
    """Runs when the module is imported: neither in a function nor under TYPE_CHECKING."""


def subpackage(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return next((name for name in (".".join(parts[:2]), parts[0]) if name in MAY_IMPORT), parts[0])


def imports(path: Path) -> Iterator[Import]:
    def walk(node: ast.AST, at_top: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            inside = at_top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                inside = False
            if isinstance(child, ast.Import):
                yield from (Import(path, child.lineno, alias.name, at_top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if base == "omnidrop_cli":
                    yield from (Import(path, child.lineno, f"{base}.{alias.name}", at_top) for alias in child.names)
                else:
                    yield Import(path, child.lineno, base, at_top)
            yield from walk(child, inside)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), True)


def ours(found: Import) -> str | None:
    """The subpackage an import reaches, None for other packages and for the package's own names."""
    parts = found.module.split(".")
    if parts[0] != "omnidrop_cli" or len(parts) < 2:
        return None
    nested = ".".join(parts[1:3])
    if nested in MAY_IMPORT:
        return nested
    return parts[1] if parts[1] in MAY_IMPORT or (ROOT / parts[1]).is_dir() else None


def where(found: Import) -> str:
    return f"{found.file.relative_to(ROOT)}:{found.line} imports {found.module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_subpackages_import_only_below_themselves(path: Path) -> None:
    here = subpackage(path)
    assert here in MAY_IMPORT, f"{here} is a new subpackage: give it a line in MAY_IMPORT"
    wrong = [where(found) for found in imports(path) if ours(found) not in {None, here, *MAY_IMPORT[here]}]
    assert not wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_light_subpackages_import_nothing_heavy_at_the_top(path: Path) -> None:
    banned = HEAVY if subpackage(path) in LIGHT else {"bitsandbytes", "yt_dlp"}
    assert not [where(found) for found in imports(path) if found.at_top and found.module.split(".")[0] in banned]


@pytest.mark.parametrize("path", sorted((ROOT / "prune" / "methods").glob("*.py")), ids=lambda path: path.stem)
def test_methods_know_neither_hooks_nor_models(path: Path) -> None:
    allowed = {"torch", "omnidrop_cli", "__future__", *sys.stdlib_module_names, "numpy"}
    for found in imports(path):
        parts = found.module.split(".")
        assert parts[0] in allowed, where(found)
        if parts[:2] == ["omnidrop_cli", "prune"] and len(parts) > 2:
            assert parts[2] not in BEYOND_A_METHOD, where(found)


def test_transformers_is_named_where_its_changes_are_borne() -> None:
    """Model classes live in model/; feature and sampling classes in prompt/ and engine/generate.py. Training has its own."""
    found_in = {subpackage(found.file) for path in FILES for found in imports(path) if found.module.split(".")[0] == "transformers"}
    assert found_in <= {"model", "prompt", "engine", "nano.train", "bench"}


def test_the_reader_of_imports_sees_what_it_should(tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text(
        "import torch\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import av\ndef f():\n    import transformers\n"
        "class C:\n    import soundfile\n"
    )
    found = {entry.module: entry.at_top for entry in imports(path)}
    assert found == {"torch": True, "typing": True, "av": False, "transformers": False, "soundfile": True}


def modules_after(code: str) -> set[str]:
    script = f"import sys, json\n{code}\nsys.stderr.write(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stderr))


@pytest.mark.parametrize("arguments", [["--help"], ["ask", "--help"], ["--version"], ["batch", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = f"from omnidrop_cli.cli import build\ntry:\n    build()({arguments!r})\nexcept SystemExit:\n    pass"
    assert not modules_after(code) & (HEAVY | {"numpy", "huggingface_hub"})


def test_a_usage_mistake_is_found_before_anything_heavy() -> None:
    for wrong in (["--keep", "0"], ["--keep", "2"], ["-m", "omnidrip"], ["--no-audio", "--no-video"], ["--model", "nan"], ["--quant", "q"]):
        code = (
            "from omnidrop_cli.cli import build\nfrom omnidrop_cli.errors import UsageError\n"
            f"try:\n    build()(['ask', 'x.mp4', 'q', *{wrong!r}], standalone_mode=False)\n"
            "except UsageError:\n    pass\nelse:\n    raise SystemExit('not refused')"
        )
        assert not modules_after(code) & {"torch", "transformers"}, wrong


def test_importing_the_package_imports_nothing() -> None:
    assert not modules_after("import omnidrop_cli") & (HEAVY | {"numpy", "typer", "rich"})


def module_of(path: Path) -> str:
    return ".".join(("omnidrop_cli", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Every import path that returns to its start, one per circle."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
        elif module not in done:
            for other in sorted(edges.get(module, ())):
                visit(other, [*path, module])
            done.add(module)

    for module in sorted(edges):
        visit(module, [])
    return found


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports inside functions and for types count too: a circle is a circle for its reader."""
    modules = {module_of(path) for path in FILES}
    edges: dict[str, set[str]] = {}
    for path in FILES:
        here = module_of(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "omnidrop_cli":
                named = {f"{node.module}.{alias.name}" for alias in node.names}
                edges.setdefault(here, set()).update((named & modules) or {node.module} - {here})
    edges.pop("omnidrop_cli")  # the package names what is public
    assert circles(edges) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == [["a", "b", "c", "a"]]
