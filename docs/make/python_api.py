"""docs/user/python-api.md: every public name with its signature, docstring, fields and methods, read from the package."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "user" / "python-api.md"

INTRO = """# Python

This page is generated from the package by `python -m docs.make`. The names on it, and the [JSON schema](json.md), are the stable
interface; everything else can change in any version. Importing the package loads nothing heavy; a name is loaded on first use.

```python
import omnidrop_cli as omnidrop

session = omnidrop.load("nano")
report = session.ask("demo", "What is said while the car is shown?", keep=0.5)
print(report.answer.text, report.trace.retention_after)
```

Warnings and stages go to a `ProgressCallback` where you pass one, else to the logger `omnidrop` of `logging`; nothing goes to stdout.

A session decodes clips in its own process: a clip that crashes a codec ends it. The commands decode in a child process, which a notebook or
a script without `if __name__ == "__main__"` cannot start; for many unknown clips, use [`omnidrop batch`](batch.md).

Examples: `docs/examples/several_questions.py`, `docs/examples/compare_methods.py`, `docs/examples/kept_seconds.py` and the notebook
`docs/examples/pruning.ipynb`.
"""


GROUPS = ("Ask", "Options", "Results", "Extend", "Errors")


def names() -> list[str]:
    """The public names, in the order of the package."""
    import omnidrop_cli

    return [name for name in omnidrop_cli.__all__ if not name.startswith("_")]


def page() -> str:
    """The whole page in Markdown."""
    import omnidrop_cli

    values = {name: getattr(omnidrop_cli, name) for name in names()}
    parts = [INTRO]
    for group in GROUPS:
        parts.append(f"## {group}\n")
        for name, value in values.items():
            if _group(value) == group:
                parts += _entry(name, value)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).rstrip() + "\n"


def _group(value: Any) -> str:
    """Under which heading a name stands: by what it is and the module that defines it."""
    if inspect.isclass(value) and issubclass(value, Exception):
        return "Errors"
    module = getattr(value, "__module__", "").rpartition(".")[2]
    return {"config": "Options", "outputs": "Results", "tokens": "Results", "base": "Extend", "events": "Extend"}.get(module, "Ask")


def _entry(name: str, value: Any) -> Iterator[str]:
    yield f"### {name}\n"
    if inspect.ismodule(value) or not callable(value):
        yield _prose(inspect.getdoc(value))
        return
    if inspect.isclass(value) and issubclass(value, enum.Enum):
        yield _prose(inspect.getdoc(value))
        yield "\n".join(f"- `{member.name}` = {member.value}" for member in value) + "\n"
        return
    yield _signature(name, value)
    yield _prose(_own_doc(value))
    if inspect.isclass(value):
        for attribute, member in vars(value).items():
            function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
            if isinstance(member, property) and not attribute.startswith("_") and member.__doc__:
                yield f"#### {name}.{attribute}\n\n{_prose(inspect.getdoc(member))}"
            elif inspect.isfunction(function) and not attribute.startswith("_") and function.__doc__:
                yield f"#### {name}.{attribute}\n"
                yield _signature(f"{name}.{attribute}", function)
                yield _prose(inspect.getdoc(function))


def _own_doc(value: Any) -> str | None:
    """The docstring; None for the text that a dataclass writes itself."""
    text = inspect.getdoc(value)
    return None if dataclasses.is_dataclass(value) and text and text.startswith(f"{value.__name__}(") else text


def _signature(name: str, value: Any) -> str:
    try:
        signature = inspect.signature(value)
    except ValueError:
        return ""
    shown = [p.replace(annotation=_plain(p.annotation)) for p in signature.parameters.values() if p.name not in ("self", "cls")]
    result = f" -> {_text(signature.return_annotation)}" if signature.return_annotation is not inspect.Signature.empty else ""
    parts = [_parameter(p) for p in shown]
    keyword_only = [p.kind is p.KEYWORD_ONLY for p in shown]
    if True in keyword_only and not any(p.kind is p.VAR_POSITIONAL for p in shown):
        parts.insert(keyword_only.index(True), "*")
    line = f"{name}({', '.join(parts)}){result if not inspect.isclass(value) else ''}"
    if len(line) > 100:
        line = f"{name}(\n    " + ",\n    ".join(parts) + f",\n){result if not inspect.isclass(value) else ''}"
    return f"```text\n{line}\n```\n"


def _parameter(parameter: inspect.Parameter) -> str:
    prefix = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    annotation = f": {parameter.annotation}" if parameter.annotation is not inspect.Parameter.empty else ""
    default = parameter.default
    if default is inspect.Parameter.empty:
        return f"{prefix}{parameter.name}{annotation}"
    shown = "..." if repr(default).startswith("<") else repr(default)
    return f"{prefix}{parameter.name}{annotation} = {shown}"


def _plain(annotation: Any) -> Any:
    return annotation if annotation is inspect.Parameter.empty else _text(annotation)


def _text(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:omnidrop_cli|collections\.abc|typing|pathlib)\.(?:\w+\.)*", "", text.replace("'", ""))


def _prose(text: str | None) -> str:
    """A docstring as Markdown: the entries of Args, Returns and Raises become lists, examples become code."""
    lines: list[str] = []
    section = False
    for line in (text or "").splitlines():
        if re.fullmatch(r"(Args|Returns|Raises|Yields|Attributes):", line):
            section = True
            lines += ["", f"**{line[:-1]}**", ""]
        elif section and (entry := re.match(r"    (\*{0,2}[\w. ,]+): (.*)", line)):
            lines.append(f"- `{entry[1]}`: {entry[2]}")
        elif section and line.startswith("    "):
            lines.append(f"  {line.strip()}" if lines and lines[-1] else f"- {line.strip()}")
        elif line.startswith(">>>"):
            lines.append(f"    {line}")
        else:
            section = section and not line
            lines.append(line)
    return "\n".join(lines).strip() + "\n"
