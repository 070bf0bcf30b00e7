"""A request from keyword options, as the Python API takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from omnidrop_cli.config import GenerationConfig, MediaConfig, ModelConfig, PruningConfig, Request
from omnidrop_cli.errors import UsageError
from omnidrop_cli.options import options_of
from omnidrop_cli.suggest import did_you_mean


def request_options() -> dict[str, tuple[type, ...]]:
    """Every option of a request by name, and the configurations it goes to: `seed` goes to two."""
    found: dict[str, tuple[type, ...]] = {"system": (Request,)}
    for config in (MediaConfig, PruningConfig, GenerationConfig):
        for one in options_of(config).values():
            found[one.python_name] = (*found.get(one.python_name, ()), config)
    return found


Media = str | PathLike[str] | Sequence[str | PathLike[str]]
"""A path or an address, or several for one question."""


def make_request(media: Media, question: str, model: ModelConfig, options: Mapping[str, Any]) -> Request:
    """The request that `options` describe.

    Raises:
        UsageError: no media, an option that does not exist, or a value out of its bounds.
    """
    given = [media] if isinstance(media, str | PathLike) else media
    if isinstance(given, bytes) or not isinstance(given, Sequence) or not all(isinstance(one, str | PathLike) for one in given):
        raise UsageError(f"a clip is a path or an address, or a list of them, not {type(media).__name__}", 'for example: "talk.mp4"')
    if not isinstance(question, str):
        raise UsageError(f"a question is text, not {type(question).__name__}", 'for example: "What is said?"')
    names = [str(one) for one in given]
    if not names:
        raise UsageError("no clip given", "give a file or an address")
    known = request_options()
    for name in options:
        if name not in known:
            raise UsageError(f"unknown option '{name}'", did_you_mean(name, known, f"the options: {', '.join(sorted(known))}"))

    def of(config: type) -> dict[str, Any]:
        fields = {one.python_name: one.field for one in options_of(config).values()}
        return {fields[name]: value for name, value in options.items() if config in known[name]}

    return Request(
        names[0],
        question,
        more=tuple(names[1:]),
        **of(Request),
        media_options=MediaConfig(**of(MediaConfig)),
        model=model,
        method=PruningConfig(**of(PruningConfig)),
        generation=GenerationConfig(**of(GenerationConfig)),
    )
