"""No pruning: the baseline of every comparison.

An empty plan makes the prefill drop nothing and the hook install nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from omnidrop_cli.prune.base import Method, Plan, PromptInfo


@dataclass(frozen=True)
class Unpruned(Method):
    """Keeps every token."""

    name: ClassVar[str] = "none"
    summary: ClassVar[str] = "every token, no hook: the baseline"

    def plan(self, prompt: PromptInfo) -> Plan:
        return Plan()
