"""From checked configs to a `Request`: what is left to check before anything heavy is imported."""

from __future__ import annotations

import sys

from omnidrop_cli.config import FetchConfig, GenerationConfig, MediaConfig, ModelConfig, PruningConfig, Request
from omnidrop_cli.errors import UsageError

STDIN = "-"
"""What stands for stdin in place of a question or a clip."""


def request_of(
    media: str,
    question: str,
    system: str | None,
    part: MediaConfig,
    model: ModelConfig,
    pruning: PruningConfig,
    generation: GenerationConfig,
    fetch: FetchConfig,
) -> Request:
    """The request. Raises `UsageError` for an empty clip name, an unknown method, and a preset or option the method does not have."""
    if not media.strip():
        raise UsageError("no clip given", "give a file or an address")
    check_method(pruning)
    return Request(media, question, system, part, model, pruning, generation, fetch)


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
    """The question itself, from stdin where it is "-". Raises `UsageError` for an empty one."""
    if question == STDIN:
        try:
            question = sys.stdin.read()
        except UnicodeDecodeError as error:
            raise UsageError("the question on stdin is not text", "it must be UTF-8") from error
    question = question.strip()
    if not question:
        raise UsageError("the question is empty", 'for example: omnidrop ask clip.mp4 "What is said?"')
    return question
