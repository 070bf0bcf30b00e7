"""What a pruning method is, and all it ever sees.

Knows: the read-only views handed to a method and the two places it may act: before the language model, and after a decoder layer.
Does not know: models, masks, caches, positions, hooks (`generate_hook.py` does those once, for every method).

A method turns facts of the prompt into a `Plan` of two optional stages. The stages see audio and video tokens only, so text
cannot be dropped. How many tokens survive is settled on the host (`InsideStage.keep_after`), so a prefill needs no device sync.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from omnidrop_cli.outputs import TokenMap


@dataclass(frozen=True, slots=True)
class PromptFacts:
    """Host-side facts a plan is made from: what every token is, and how deep the decoder is.

    `checkpoint` is the directory the model's weights came from, where trained parts of a method may lie; None for weights from nowhere.
    """

    tokens: TokenMap
    num_layers: int
    checkpoint: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class InputView:
    """What a stage before the language model sees.

    `audio` (n_a, d) and `video` (n_v, d) are the embeddings in prompt order, `query` (n_q, d) those of the question's tokens.
    `audio_attention` (n_a,) and `video_attention` (n_v,) are the attention each token received in the last layer of its encoder
    (methods.md 2.1, 4.2); None unless the method asked for it in `Method.needs`. `tokens` is the host-side map of the whole prompt.
    """

    tokens: TokenMap
    audio: Tensor
    video: Tensor
    query: Tensor
    audio_attention: Tensor | None = None
    video_attention: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Survivors of a stage before the language model: ascending int64 indices into the audio and into the video tokens.

    `audio_embeds`/`video_embeds`, where given, replace the survivors' embeddings (merging methods); same length as the indices.
    """

    audio: Tensor
    video: Tensor
    audio_embeds: Tensor | None = None
    video_embeds: Tensor | None = None


class LayerView(Protocol):
    """What a stage inside the decoder sees right after one layer: the audio and video tokens still alive, m of them.

    `modality` (m,) int8, `chunk` (m,) int64, `index` (m,) int64 (place in the original prompt) live on the device.
    """

    layer: int
    num_layers: int

    @property
    def modality(self) -> Tensor: ...
    @property
    def chunk(self) -> Tensor: ...
    @property
    def index(self) -> Tensor: ...
    @property
    def hidden(self) -> Tensor:
        """(m, d) hidden states leaving the layer."""
        ...

    def attention(self, rows: str = "query") -> Tensor:
        """(m,) float32: this layer's softmax mass from text rows to each token, mean over heads and rows.

        `rows`: "query" the question's tokens, "last" the last prompt token, "text" every text token after the first media token.
        """
        ...


class BeforeStage(Protocol):
    """Chooses what enters layer 0."""

    def __call__(self, view: InputView) -> Selection: ...


class InsideStage(Protocol):
    """Chooses what leaves a layer."""

    def keep_after(self, layer: int, alive: int) -> int:
        """How many of the `alive` audio and video tokens survive layer `layer`; host arithmetic, called once per layer in order."""
        ...

    def __call__(self, view: LayerView, keep: int) -> Tensor:
        """(keep,) int64 indices, any order, into the m tokens of the view. Called only where `keep` < alive."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What a method will do to one prompt. `notes` are facts worth reporting (solved parameters), JSON-ready."""

    before: BeforeStage | None = None
    inside: InsideStage | None = None
    notes: Mapping[str, float | int | str] | None = None


class Method(ABC):
    """A pruning method: a frozen dataclass of options. Subclasses are listed in `prune/methods/__init__.py` or an entry point.

    `needs` names encoder by-products the stages read: "audio_attention", "video_attention".
    `presets` maps a preset's name to option values; `keep` is the wanted mean share of audio and video tokens, None for the default.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset()
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {}

    @abstractmethod
    def plan(self, facts: PromptFacts) -> Plan:
        """Settle the budgets for one prompt. Raises `ValueError` for options that cannot work with it."""

    def describe(self) -> dict[str, object]:
        """Options as plain values, for the report."""
        return asdict(self)  # type: ignore[call-overload,no-any-return]  # every method is a dataclass; ABCs cannot say so
