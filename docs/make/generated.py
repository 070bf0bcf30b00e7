"""The pages that are written by a program, and what writes each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from docs.make import card_table, cli_reference, demo, gpu_tables, python_api, tables

DOCS = Path(__file__).parents[1]

PAGES: Mapping[Path, Callable[[], str]] = {
    DOCS / "user" / "cli.md": cli_reference.page,
    demo.PAGE: demo.page,
    python_api.PAGE: python_api.page,
    gpu_tables.PAGE: gpu_tables.page,
    card_table.PAGE: card_table.page,
    **{path: partial(tables.page, path) for path in tables.PAGES},
}
"""Page to the function that returns its text. A test compares each with what is committed."""
