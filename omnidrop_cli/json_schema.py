"""JSON schemas as users give them, the schema itself or a file that holds it, and as llguidance enforces them. Imports no torch."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omnidrop_cli.errors import UsageError

HINT = """for example: '{"type": "object", "properties": {"people": {"type": "integer"}}, "required": ["people"]}', or a file with it"""


REQUIREMENT = "llguidance>=1.7.5"

LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""One layout, that of `json.dumps`: where white space is free, a small model fills its answer with it."""


def schema_text(given: Any) -> str:
    """The schema as one line of JSON, its keys in their order: a model writes properties in the order of the schema.

    Args:
        given: JSON text that begins with a brace, the path of a file, or a mapping.

    Raises:
        UsageError: a file that cannot be read, or what is no JSON object. Whether it is a schema is `check_schema`'s.
    """
    if isinstance(given, Mapping):
        value: Any = given
    elif isinstance(given, str | Path):
        inline = isinstance(given, str) and given.lstrip().startswith(("{", "["))
        value = _parsed(str(given), "`schema`") if inline else _parsed(_content(Path(given)), str(given))
    else:
        raise UsageError(f"`schema` is a {type(given).__name__}; it must be JSON, a file or a mapping", HINT)
    if not isinstance(value, Mapping):
        raise UsageError(f"`schema` is no JSON object but {_kind(value)}", HINT)
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"`schema` cannot be written as JSON: {error}", HINT) from error


def check_schema(schema: str) -> None:
    """Check that answers can be held to a schema, without a model.

    Args:
        schema: a JSON object.

    Raises:
        UsageError: llguidance is missing, or the schema is wrong, contradicts itself or uses a keyword that llguidance does not enforce.
    """
    if importlib.util.find_spec("llguidance") is None:
        raise UsageError("`schema` needs llguidance", f'pip install "{REQUIREMENT}"')
    from llguidance import LLMatcher

    failed, messages = LLMatcher.validate_grammar_with_warnings(grammar(schema))
    if failed:
        raise UsageError(f"`schema` cannot be followed: {' '.join(messages[0].split())[:200]}", "answers would not be held to it")


def grammar(schema: str) -> str:
    """The schema as llguidance's grammar. A blank may come before the JSON: the first word of some models' answers has one."""
    from llguidance import LLMatcher

    made: str = LLMatcher.grammar_from_lark(f'start: " "? json\njson: %json {json.dumps({**json.loads(schema), "x-guidance": LAYOUT})}')
    return made


def _content(path: Path) -> str:
    try:
        if not path.is_file():
            raise UsageError(f"{path}: {'not a file' if path.exists() else 'no such file'}", HINT)
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # a path with a null byte and bytes that are no UTF-8 are ValueErrors
        raise UsageError(f"{path}: the schema cannot be read: {error}", "it must be a file of JSON in UTF-8") from error


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is no JSON: {error}", HINT) from error


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")
