"""Several questions about one clip: it decodes and passes the towers once, and a question sees the questions before it.

Knows: what is kept between questions (the clip, the towers' features, the words said) and what is not: a pruned prompt belongs to
one question, so every question is prefilled anew. Does not know terminals.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from omnidrop_cli.events import SILENT, Observer
from omnidrop_cli.prune.methods import create

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omnidrop_cli.config import PruningConfig, Request
    from omnidrop_cli.engine.encode import MediaFeatures
    from omnidrop_cli.engine.session import Read, Session
    from omnidrop_cli.outputs import Clip, Comparison, Report


class Conversation:
    """`turns` are the questions and answers so far; `method` is the one the next question is pruned with, and may be changed."""

    def __init__(self, session: Session, template: Request, clip: Clip, seconds: Mapping[str, float] | None = None) -> None:
        """`template` holds the settings of every question; `seconds` are stages that ran already, for the first report."""
        self.turns: list[tuple[str, str]] = []
        self.clip = clip
        self._session, self._template = session, template
        self._seconds = dict(seconds or {})
        self._features: MediaFeatures | None = None
        self._encoded_for: frozenset[str] = frozenset()

    @property
    def method(self) -> PruningConfig:
        return self._template.method

    @method.setter
    def method(self, choice: PruningConfig) -> None:
        """Raises `UsageError` for a method that cannot be made; the one before then stays."""
        create(choice)
        self._template = replace(self._template, method=choice)

    def ask(self, question: str, observer: Observer = SILENT) -> Report:
        """Answer, and remember both. Raises `OmnidropError`; the conversation is then as before."""
        report = self._session.answer(self._read(question, self.turns, observer), observer)
        self.turns.append((question, report.answer.text))
        return report

    def compare(self, question: str | None = None, observer: Observer = SILENT) -> Comparison:
        """Answer unpruned and pruned. Without a question the last one is asked again, in its own place; its answer stays as it was.

        Raises `OmnidropError`, and `ValueError` where nothing was asked yet.
        """
        if question is None and not self.turns:
            raise ValueError("nothing was asked yet")
        asked, history = (question, self.turns) if question is not None else (self.turns[-1][0], self.turns[:-1])
        comparison = self._session.contrast(self._read(asked, history, observer), observer)
        if question is not None:
            self.turns.append((question, comparison.pruned.answer.text))
        return comparison

    def forget(self) -> None:
        """Begin anew with the same clip."""
        self.turns.clear()

    def _read(self, question: str, history: list[tuple[str, str]], observer: Observer) -> Read:
        job = replace(self._template, question=question)
        needs = create(job.method).needs
        seconds, self._seconds = self._seconds, {}
        read = self._session.read(job, observer, self.clip, seconds, features=self._features, needs=self._encoded_for, history=[*history])
        # The clip too: where memory did not suffice, it was read again with less detail.
        self.clip, self._features, self._encoded_for = read.clip, read.features, self._encoded_for | needs
        return read
