"""The contract between a pruning method and the engine: read-only views go in, indices of the tokens to keep come out.

A method turns `PromptInfo` into a `Plan` of two optional stages: an input stage, which chooses what enters layer 0, and an in-LLM
stage, which chooses what leaves each decoder layer. Stages see audio and video tokens only, so text is never dropped. The number of
survivors is computed on the host (`InLLMStage.keep_count`), so a prefill needs no device synchronisation.

Two index spaces appear here. A *modality index* counts the tokens of one modality in prompt order (`Selection`). A *view index* counts
the audio and video tokens still alive at a layer (`LayerView`, `InLLMStage`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from omnidrop_cli.errors import OmnidropError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from omnidrop_cli.outputs import TokenMap

Queries = Literal["query", "last", "text"]
"""Text tokens whose attention scores: the question's, the last prompt token, every text token after the first media token."""


@dataclass(frozen=True, slots=True)
class PromptInfo:
    """Host-side description of one prompt, from which a method plans.

    A method sees one clip at a time: of several, each has a description, a plan and views of its own (`prune/clips.py`).

    Attributes:
        tokens: what every prompt token is.
        num_layers: depth of the decoder.
        checkpoint: directory of the model's weights, where trained parts of a method may lie; None for random weights.
    """

    tokens: TokenMap
    num_layers: int
    checkpoint: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class InputView:
    """What an input stage sees.

    Attributes:
        tokens: host-side map of the whole prompt.
        audio: (n_a, d) embeddings of the audio tokens in prompt order.
        video: (n_v, d) embeddings of the video tokens in prompt order.
        query: (n_q, d) embeddings of the question's tokens.
        audio_attention: (n_a,) attention received in the audio encoder's last layer, of the scope that `Method.needs` names; else None.
        video_attention: (n_v,) attention received in the vision encoder's last block; None unless `Method.needs` names it.
    """

    tokens: TokenMap
    audio: Tensor
    video: Tensor
    query: Tensor
    audio_attention: Tensor | None = None
    video_attention: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Survivors of an input stage: ascending int64 modality indices.

    `audio_embeds` and `video_embeds`, where given, replace the survivors' embeddings (token merging); same length as the indices.
    """

    audio: Tensor
    video: Tensor
    audio_embeds: Tensor | None = None
    video_embeds: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LayerSelection:
    """Survivors of an in-LLM stage that merges tokens.

    Attributes:
        index: (keep,) int64 view indices, any order.
        hidden: (keep, d) hidden states with which those tokens enter the next layer, in the order of `index`.
    """

    index: Tensor
    hidden: Tensor


class LayerView(Protocol):
    """What an in-LLM stage sees right after one layer: the m audio and video tokens still alive."""

    layer: int
    num_layers: int

    @property
    def modality(self) -> Tensor:
        """(m,) int8 `Modality` values."""
        ...

    @property
    def chunk(self) -> Tensor:
        """(m,) int64 two-second chunk of each token."""
        ...

    @property
    def index(self) -> Tensor:
        """(m,) int64 position of each token in the original prompt."""
        ...

    @property
    def hidden(self) -> Tensor:
        """(m, d) hidden states leaving the layer."""
        ...

    @property
    def text_hidden(self) -> Tensor:
        """(t, d) hidden states of all text tokens leaving the layer."""
        ...

    def attention(self, queries: Queries = "query") -> Tensor:
        """(m,) float32: this layer's softmax mass from the `queries` tokens to each view token, mean over heads and queries."""
        ...


Scope = Literal["window", "clip"]
"""Frames that the audio encoder's attention is read over: the encoder's own two-second windows, or the whole clip."""

SCOPE_HELP = "audio attention inside the encoder's two-second windows, or over the whole clip"


def audio_attention_need(scope: Scope) -> str:
    """The name in `Method.needs` of audio attention of `scope`."""
    return "audio_attention_clip" if scope == "clip" else "audio_attention"


class InputStage(Protocol):
    """Chooses what enters layer 0."""

    def __call__(self, view: InputView) -> Selection: ...


class InLLMStage(Protocol):
    """Chooses what leaves a decoder layer."""

    def keep_count(self, layer: int, alive: int) -> int:
        """Number of the `alive` audio and video tokens that survive `layer`. Host arithmetic; called once per layer, in order."""
        ...

    def __call__(self, view: LayerView, keep: int) -> Tensor | LayerSelection:
        """(keep,) int64 view indices, any order; a `LayerSelection` where tokens are merged. Called only where `keep` < m."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What a method does to one prompt.

    Attributes:
        input_stage: chooses what enters layer 0; None keeps everything.
        in_llm_stage: chooses what leaves each layer; None keeps everything.
        metadata: JSON-ready values for the report, such as solved parameters.
    """

    input_stage: InputStage | None = None
    in_llm_stage: InLLMStage | None = None
    metadata: Mapping[str, float | int | str] | None = None


def method_mistake(name: str, what: str) -> OmnidropError:
    """The error for a method that breaks this contract."""
    return OmnidropError(f"the method {name} {what}", "this is a mistake in the method: docs/develop/add-a-method.md")


class Method(ABC):
    """A pruning method: a frozen dataclass of options. Subclasses are listed in `prune/methods/__init__.py` or an entry point.

    Attributes:
        name: name on the command line.
        summary: one line for `omnidrop methods`.
        paper: arXiv id, empty for methods without a paper.
        presets: preset name → option values.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str] = ""
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {}

    @property
    def needs(self) -> frozenset[str]:
        """Encoder by-products that the input stage reads: "audio_attention" or "audio_attention_clip", and "video_attention"."""
        return frozenset()

    @abstractmethod
    def plan(self, prompt: PromptInfo) -> Plan:
        """Compute the token budgets for one prompt. Raises `ValueError` for options that cannot work with it."""

    def describe(self) -> dict[str, object]:
        """Options as plain values, for the report."""
        return asdict(self)  # type: ignore[call-overload,no-any-return]  # every method is a dataclass; ABCs cannot declare it
