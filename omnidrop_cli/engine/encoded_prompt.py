"""What a session passes on between its steps: what a prompt is made from, and a prompt whose media are encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omnidrop_cli.config import Request
    from omnidrop_cli.engine.encode import MediaFeatures
    from omnidrop_cli.outputs import Clip, Prompt
    from omnidrop_cli.prune.base import Method


@dataclass(frozen=True, slots=True, eq=False)
class PromptSource:
    """What a prompt is made from.

    Attributes:
        request: question, media and settings.
        clips: the decoded media; None decodes them.
        features: encoder outputs of the same clips, if there are any.
        needs: encoder by-products to keep besides those of the request's own method (`Method.needs`).
        history: earlier questions and answers about the clips.
        earlier: token ids of answers of the same conversation that are not in `history`; prompt lookup drafts from them.
        media_first: False puts the text before the clips.
        seconds: stages that ran already, for the report.
    """

    request: Request
    clips: tuple[Clip, ...] | None = None
    features: MediaFeatures | None = None
    needs: frozenset[str] = frozenset()
    history: Sequence[tuple[str, str]] = ()
    earlier: Sequence[Sequence[int]] = ()
    media_first: bool = True
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPrompt:
    """A prompt whose media have passed the encoders; several methods can run from it.

    Attributes:
        source: what it was made from; its request says what was decoded in the end, where memory did not suffice for more.
        clips: the decoded media.
        seconds: stages that have run.
        peak_mb: memory peak of the encoders.
        warnings: what was given up because of the memory.
    """

    source: PromptSource
    clips: tuple[Clip, ...]
    prompt: Prompt
    features: MediaFeatures
    method: Method
    seconds: Mapping[str, float]
    peak_mb: float = 0.0
    warnings: tuple[str, ...] = ()

    @property
    def request(self) -> Request:
        return self.source.request
