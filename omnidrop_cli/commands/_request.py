"""From checked configs to a `Request`: what is left to check before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from omnidrop_cli.commands._options import SystemFlags
from omnidrop_cli.config import FetchConfig, GenerationConfig, MediaConfig, ModelConfig, PruningConfig, Request
from omnidrop_cli.errors import UsageError
from omnidrop_cli.json_schema import check_schema
from omnidrop_cli.options import check_words
from omnidrop_cli.stdin import read_stdin

STDIN = "-"
"""What stands for stdin in place of a question or a clip."""

_LONGEST_QUESTION = 1 << 24
"""Characters."""


@dataclass(frozen=True, slots=True)
class RequestFlags:
    """The flags of every command that answers questions."""

    pruning: PruningConfig
    media: MediaConfig
    fetch: FetchConfig
    model: ModelConfig
    generation: GenerationConfig
    system: SystemFlags

    def request(self, media: str, question: str, more: Sequence[str] = ()) -> Request:
        """The request about `media` and `more`. Raises `UsageError` for an empty clip name and as `check` does."""
        if not all(name.strip() for name in (media, *more)):
            raise UsageError("no clip given", "give a file or an address")
        self.check()
        return replace(self.template(media, question), more=tuple(more))

    def check(self) -> None:
        """Find what would fail after the model has loaded.

        Raises:
            UsageError: an unknown method, a preset or option that it does not have, or a schema that answers cannot follow.
        """
        check_method(self.pruning)
        if self.generation.schema is not None:
            check_schema(self.generation.schema)

    def template(self, media: str = "", question: str = "") -> Request:
        """The same without the checks."""
        return Request(media, question, self.system.system, self.media, self.model, self.pruning, self.generation, self.fetch)


def check_no_stdin(media: str, command: str) -> None:
    """Raises `UsageError` where a clip on stdin was given to a command that reads the clip again, or something else from stdin."""
    if media == STDIN:
        raise UsageError(f"{command} does not read a clip from stdin", "save it to a file; ask and inspect read one")


def check_method(pruning: PruningConfig) -> None:
    """Raises `UsageError` for a method that cannot be created. Imports it (and torch) only where its name alone does not tell."""
    from omnidrop_cli.prune.methods import get_method, parts

    parts(pruning.name)
    if pruning.preset or pruning.options or "+" in pruning.name:
        get_method(pruning)


def read_question(question: str) -> str:
    """The question itself, from stdin where it is "-". Raises `UsageError` for one that is empty, endless or no text."""
    if question == STDIN:
        question = read_stdin(_LONGEST_QUESTION)
    question = question.strip()
    check_words(question, "the question")
    if not question:
        raise UsageError("the question is empty", 'for example: omnidrop ask clip.mp4 "What is said?"')
    return question
