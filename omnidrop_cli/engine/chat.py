"""Several questions about the same clips, which are decoded and encoded once; a question sees the questions before it.

Pruning depends on the question, so every question has a prefill of its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from omnidrop_cli.engine.encoded_prompt import PromptSource
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.model.names import BUILT_IN
from omnidrop_cli.prune.methods import get_method

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omnidrop_cli.config import PruningConfig, Request
    from omnidrop_cli.engine.encode import MediaFeatures
    from omnidrop_cli.engine.encoded_prompt import EncodedPrompt
    from omnidrop_cli.outputs import Clip, Comparison, LoadedModel, Report


class Answering(Protocol):
    """The part of a session that a conversation uses."""

    @property
    def loaded(self) -> LoadedModel: ...
    def encode(self, source: PromptSource, progress: ProgressCallback = ...) -> EncodedPrompt: ...
    def answer(self, encoded: EncodedPrompt, progress: ProgressCallback = ...) -> Report: ...
    def compare_encoded(self, encoded: EncodedPrompt, progress: ProgressCallback = ...) -> Comparison: ...


class Conversation:
    """A conversation about one or several clips.

    Attributes:
        turns: The questions and answers so far.
        method: How the next question is pruned; may be changed.
        remembers: Whether a question sees those before it. The built-in model was not trained on conversations.
    """

    def __init__(self, session: Answering, template: Request, clips: tuple[Clip, ...], seconds: Mapping[str, float] | None = None) -> None:
        """`template` holds the settings of every question; `seconds` are stages that ran already, for the first report."""
        self.turns: list[tuple[str, str]] = []
        self.clips = clips
        self.remembers = session.loaded.source != BUILT_IN
        self._session, self._template = session, template
        self._seconds = dict(seconds or {})
        self._features: MediaFeatures | None = None
        self._encoded_for: frozenset[str] = frozenset()
        self._written: list[tuple[int, ...]] = []  # token ids of the answers in `turns`

    @property
    def method(self) -> PruningConfig:
        return self._template.method

    @method.setter
    def method(self, choice: PruningConfig) -> None:
        """Raises `UsageError` for a method that cannot be made; the one before then stays."""
        get_method(choice)
        self._template = replace(self._template, method=choice)

    def ask(self, question: str, progress: ProgressCallback = SILENT) -> Report:
        """Answer, and remember both. Raises `OmnidropError`; the conversation is then as before."""
        report = self._session.answer(self._encode(question, self.turns, progress), progress)
        self._remember(question, report)
        return report

    def compare(self, question: str | None = None, progress: ProgressCallback = SILENT) -> Comparison:
        """Answer unpruned and pruned. Without a question the last one is asked again, in its own place; its answer stays as it was.

        Raises `OmnidropError`, and `ValueError` where nothing was asked yet.
        """
        if question is None and not self.turns:
            raise ValueError("nothing was asked yet")
        asked, history = (question, self.turns) if question is not None else (self.turns[-1][0], self.turns[:-1])
        comparison = self._session.compare_encoded(self._encode(asked, history, progress), progress)
        if question is not None:
            self._remember(question, comparison.pruned)
        return comparison

    def forget(self) -> None:
        """Start a new conversation about the same clips."""
        self.turns.clear()
        self._written.clear()

    def _remember(self, question: str, report: Report) -> None:
        self.turns.append((question, report.answer.text))
        self._written.append(report.answer.token_ids)

    def _encode(self, question: str, history: list[tuple[str, str]], progress: ProgressCallback) -> EncodedPrompt:
        job = replace(self._template, question=question)
        needs = get_method(job.method).needs
        seconds, self._seconds = self._seconds, {}
        seen = [*history] if self.remembers else []
        earlier = [] if self.remembers else self._written[: len(history)]
        source = PromptSource(job, self.clips, self._features, self._encoded_for, seen, earlier, seconds=seconds)
        encoded = self._session.encode(source, progress)
        # The clips too: where memory did not suffice, they were decoded again with less detail.
        self.clips, self._features, self._encoded_for = encoded.clips, encoded.features, self._encoded_for | needs
        return encoded
