"""Parses `--methods omnidrop@0.3,omnidrop@paper-20,none`. `prune.methods.get_method` checks names, presets and options."""

from __future__ import annotations

from collections.abc import Iterable

from omnidrop_cli.config import PruningConfig
from omnidrop_cli.errors import UsageError
from omnidrop_cli.evaluate.items import MethodSpec

SYNTAX = "write NAME, NAME@KEEP or NAME@PRESET, options behind it: omnidrop@0.3:beta=10"


def parse(texts: Iterable[str], seed: int = 0) -> list[MethodSpec]:
    """Methods from comma-separated lists. Raises `UsageError` for an empty list, a repeated method or a malformed one."""
    labels = [label.strip() for text in texts for label in text.split(",") if label.strip()]
    if not labels:
        raise UsageError("no method to evaluate", SYNTAX)
    methods: list[MethodSpec] = []
    for label in labels:
        choice = _choice(label, seed)
        twin = next((method.label for method in methods if method.choice == choice), None)
        if twin is not None:
            raise UsageError(f"method given twice: {twin}, {label}", "every method is one row of the table")
        methods.append(MethodSpec(label, choice))
    return methods


def _choice(label: str, seed: int) -> PruningConfig:
    head, *pairs = label.split(":")
    name, at, budget = head.partition("@")
    malformed = [pair for pair in pairs if "=" not in pair]
    if not name or (at and not budget) or malformed:
        raise UsageError(f"cannot read the method '{label}'", SYNTAX)
    options = {key: text for key, _, text in (pair.partition("=") for pair in pairs)}
    keep: float | None = None
    preset: str | None = None
    try:
        keep = float(budget) if at else None
    except ValueError:
        preset = budget
    return PruningConfig(name=name, keep=keep, preset=preset, options=options, seed=seed)
