"""Files of published data sets: JSON, JSONL and parquet rows, option lists in any spelling, clips in any of their folders.

Repairs the defects met in published copies.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any

from omnidrop_cli.errors import DatasetError
from omnidrop_cli.evaluate.items import Question
from omnidrop_cli.jsonl import parse_json

_MARKED = re.compile(r"^[A-Z][.):]\s")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a benchmark's rows hold the question, its options and its answer, and those behind each label.

    A column of labels may be missing; any other that is raises `DatasetError`.
    """

    question: str
    options: str
    answer: str
    labels: Mapping[str, str]

    def read(self, row: Mapping[str, Any], path: Path, *, name: str, media: str) -> Question:
        """The question of a row of the file `path`, called `name`, about the clip `media`."""
        return Question(
            id=name,
            media=media,
            text=str(value(row, self.question, path)),
            options=options(value(row, self.options, path)),
            answer=str(value(row, self.answer, path)).strip(),
            labels={label: str(row.get(column, "")) for label, column in self.labels.items()},
        )


def find(root: Path, *patterns: str) -> Path:
    """The first file under `root` that a glob pattern matches, patterns in order. Raises `DatasetError`."""
    if not root.is_dir():
        raise DatasetError(f"{root}: no such directory", "give the benchmark's directory with `data`")
    for pattern in patterns:
        matches = sorted(root.glob(pattern))
        if matches:
            return matches[0]
    raise DatasetError(
        f"{root}: none of {', '.join(patterns)} is in it", "docs/user/evaluate.md shows what each benchmark's directory holds"
    )


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON list, a JSONL or a parquet file. Shards of a parquet split next to `path` are read too. Raises `DatasetError`."""
    if path.suffix == ".parquet":
        return _parquet_rows(path)
    loaded = load_json(path)
    if not isinstance(loaded, list) or not all(isinstance(row, dict) for row in loaded):
        raise DatasetError(f"{path}: expected a list of objects", "is it the benchmark's annotation file?")
    return loaded


def load_json(path: Path) -> Any:
    """The content of a JSON or JSONL file. Raises `DatasetError`."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            return [parse_json(line) for line in text.splitlines() if line.strip()]
        return parse_json(text)
    except (OSError, ValueError) as problem:
        raise DatasetError(f"{path}: cannot be read as JSON ({problem})", "download the file again") from problem


def value(row: Mapping[str, Any], column: str, path: Path) -> Any:
    """One column of a row. Raises `DatasetError` where the file has no such column."""
    if column not in row:
        raise DatasetError(f"{path}: a row has no '{column}'", f"its columns are {', '.join(map(str, row))}")
    return row[column]


def clip(root: Path, candidates: Sequence[str]) -> str:
    """The first of `candidates` that exists under `root`, else the first, so that the error of opening it names the missing file.

    Raises:
        DatasetError: a row names a file that is not under `root`.
    """
    for candidate in candidates:
        path = PurePath(candidate)
        if path.is_absolute() or ".." in path.parts:
            raise DatasetError(
                f"{root}: a row names a clip outside of the data set, {candidate!r}", "clips are named relative to the data set"
            )
    for candidate in candidates:
        if (root / candidate).is_file():
            return str(root / candidate)
    return str(root / candidates[0])


def options(raw: object) -> tuple[str, ...]:
    """Answer options as lines "A. text", from a list or from the strings that copies of the data sets hold instead of lists.

    Such strings are Python or NumPy listings, sometimes without commas and with non-breaking spaces. A list without letters gets them.
    """
    items = _listed(raw) if isinstance(raw, str) else [str(item) for item in raw] if isinstance(raw, Iterable) else [str(raw)]
    items = [item.replace("\xa0", " ").strip() for item in items]
    if any(_MARKED.match(item) for item in items):
        return tuple(items)
    return tuple(f"{chr(ord('A') + at)}. {item}" for at, item in enumerate(items))


def _listed(raw: str) -> list[str]:
    text = raw.replace("\xa0", " ").strip()
    if _in_order(items := _literal(text)):
        return items
    # Python joins neighbouring strings: without commas a listing parses as fewer options than it holds.
    items = _literal(re.sub(r"""(['"])\s+(['"])""", r"\1, \2", text))
    if _in_order(items) or (len(items) > 1 and not any(_MARKED.match(item) for item in items)):
        return items
    return _split_at_letters(text) or [text]


def _literal(text: str) -> list[str]:
    try:
        parsed = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return []
    return [str(item).strip() for item in parsed] if isinstance(parsed, (list, tuple)) else []


def _in_order(items: Sequence[str]) -> bool:
    """At least two options, marked A, B, C and so on."""
    return len(items) > 1 and all(_MARKED.match(item) and item[0] == chr(ord("A") + at) for at, item in enumerate(items))


def _split_at_letters(text: str) -> list[str]:
    """Cut before "A.", then before the next "B." behind it, and so on."""
    cuts: list[int] = []
    start = 0
    for letter in "ABCDEFGH":
        match = re.compile(rf"""(?:^|(?<=[\s,\['"])){letter}[.)]""").search(text, start)
        if match is None:
            break
        cuts.append(match.start())
        start = match.end()
    return [text[a:b].strip(" \t\r\n'\",[]") for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError as problem:
        raise DatasetError(f"{path}: reading parquet needs pyarrow", 'pip install "pyarrow>=15"') from problem
    shards = sorted(path.parent.glob(re.sub(r"\d{5}-of-", "*-of-", path.name, count=1)))
    try:
        return [row for shard in shards for row in parquet.read_table(shard).to_pylist()]
    except (OSError, ValueError) as problem:
        raise DatasetError(f"{path}: cannot be read as parquet ({problem})", "download the file again") from problem
