"""One prefill under a pruning method: which prompt tokens are alive, how survivors pass from layer to layer, and what every layer saw.

In: the method's plan, the token map, and each layer's hidden states. Out: hidden states and rotary angles of the survivors, and a `Trace`.
Survivors keep their true TMRoPE angles. Token counts are settled on the host, so a prefill never waits for the device; kept indices
are copied to the host once, when the trace is read. Batch of one, no padding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.model.adapter import QwenOmniAdapter, cached_keys
from omnidrop_cli.model.decoder_layer import Angles
from omnidrop_cli.outputs import Counts, Modality, TokenMap, Trace
from omnidrop_cli.prune import scoring, topk
from omnidrop_cli.prune.attention_trace import summarise
from omnidrop_cli.prune.base import InputView, LayerSelection, Plan, Queries, Selection, method_mistake

Saliency = Tensor | Callable[[], "Tensor | None"] | None
"""Attention that tokens received in their encoder: (n,), or a function that is called once the encoders have run."""


class PruningState:
    """State of one prefill. `start` begins a new one; `trace` describes the last one."""

    def __init__(
        self, adapter: QwenOmniAdapter, method_name: str, plan: Plan, tokens: TokenMap, saliency: tuple[Saliency, Saliency] = (None, None)
    ) -> None:
        """`saliency` is for audio and for video, as `InputView.audio_attention` and `InputView.video_attention`."""
        self.plan = plan
        self.tokens = tokens
        self.adapter = adapter
        self.method_name = method_name
        self._saliency = saliency
        self._prompt: _PromptTensors | None = None
        self._alive: _Alive | None = None
        self._kept: list[Tensor | None] = [None] * (adapter.num_layers + 1)
        self.scores: dict[int, tuple[str, Tensor]] = {}
        """Layer -> which queries, and the attention received by the audio and video tokens entering it, as the method last asked for it."""

    def start(self, hidden: Tensor, angles: Angles) -> tuple[Tensor, Angles]:
        """Run the input stage.

        Args:
            hidden: (1, n, d) embeddings of the whole prompt.
            angles: rotary angles of the whole prompt.

        Returns:
            Hidden states and angles of the tokens that enter layer 0.

        Raises:
            OmnidropError: the method chose what is no token.
        """
        self._kept = [None] * (self.adapter.num_layers + 1)
        self.scores = {}
        self._prompt = prompt = _PromptTensors.of(self.tokens, hidden.device)
        self._alive = _Alive(index=prompt.everything, is_media=prompt.is_media, rows=prompt.media)
        if self.plan.input_stage is None:
            return hidden, angles
        selection = self.plan.input_stage(self._input_view(hidden[0], prompt))
        self._check(selection.audio, prompt.audio.shape[0], "audio tokens")
        self._check(selection.video, prompt.video.shape[0], "video tokens")
        if selection.audio_embeds is not None or selection.video_embeds is not None:
            hidden = _with_merged(hidden, selection, prompt)
        return self._drop(0, torch.cat((prompt.audio[selection.audio], prompt.video[selection.video])), hidden, angles)

    def after_layer(self, number: int, entering: Tensor, leaving: Tensor, angles: Angles, cache: Any) -> tuple[Tensor, Angles]:
        """Run the in-LLM stage after layer `number`. Nothing reads what leaves the last layer, so nothing is dropped there.

        Args:
            entering: (1, n, d) hidden states that entered the layer.
            leaving: (1, n, d) hidden states that left it.
            angles: rotary angles of these n tokens.
            cache: holds the layer's keys; None where the model runs without a cache.

        Returns:
            Hidden states and angles of the survivors.

        Raises:
            OmnidropError: the method chose what is no token, or another number of tokens than it planned.
        """
        stage, alive, _ = self.plan.in_llm_stage, *self._living()
        if stage is None or number == self.adapter.num_layers - 1:
            return leaving, angles
        keep = stage.keep_count(number, alive.rows.shape[0])
        if keep >= alive.rows.shape[0]:
            return leaving, angles
        selection = stage(_View(number, self, entering, leaving[0], angles, cache), keep)
        chosen = selection.index if isinstance(selection, LayerSelection) else selection
        self._check(chosen, alive.rows.shape[0], f"tokens alive after layer {number}")
        if chosen.shape[0] != keep:
            raise self._wrong(f"planned {keep} survivors after layer {number} and chose {chosen.shape[0]}")
        rows = alive.rows[chosen]
        if isinstance(selection, LayerSelection):
            leaving = leaving.index_copy(1, rows, selection.hidden[None].to(leaving.dtype))
        return self._drop(number + 1, rows, leaving, angles)

    def trace(self) -> Trace:
        """What every layer saw in the last prefill. Copies the kept indices and the attention to the host."""
        modality = self.tokens.modality
        latest = torch.arange(len(self.tokens)).numpy()
        kept, counts = [], []
        for number, tensor in enumerate(self._kept):
            if tensor is not None or number == 0:
                latest = latest if tensor is None else tensor.cpu().numpy()
                of = modality[latest]
                count = Counts(*(int((of == m).sum()) for m in (Modality.TEXT, Modality.AUDIO, Modality.VIDEO)))
            kept.append(latest)
            counts.append(count)
        return Trace(
            method=self.method_name,
            prompt=self.tokens.counts(),
            entering=tuple(counts[:-1]),
            leaving=tuple(counts[1:]),
            kept=tuple(kept),
            attention=summarise(self.scores, kept, self.tokens),
        )

    def _check(self, chosen: Tensor, count: int, what: str) -> None:
        """Check indices that a method chose among `count` tokens: a plugin's code is not ours.

        Their values are looked at on a CPU only, since the host would wait for another device.
        """
        if not isinstance(chosen, Tensor) or chosen.dim() != 1 or chosen.dtype != torch.int64:
            raise self._wrong(f"did not choose {what} by an int64 tensor of one dimension")
        if chosen.device.type == "cpu" and chosen.numel():
            found = chosen.sort().values
            if found[0] < 0 or found[-1] >= count:
                raise self._wrong(f"chose number {found[0] if found[0] < 0 else found[-1]} of {count} {what}")
            if (found[1:] == found[:-1]).any():
                raise self._wrong(f"chose some of the {what} twice")

    def _wrong(self, what: str) -> OmnidropError:
        return method_mistake(self.method_name, what)

    def _living(self) -> tuple[_Alive, _PromptTensors]:
        if self._alive is None or self._prompt is None:
            raise RuntimeError("a decoder layer ran before the prefill began")
        return self._alive, self._prompt

    def _input_view(self, hidden: Tensor, prompt: _PromptTensors) -> InputView:
        audio, video = (s() if callable(s) else s for s in self._saliency)
        return InputView(
            tokens=self.tokens,
            audio=hidden[prompt.audio],
            video=hidden[prompt.video],
            query=hidden[prompt.query],
            audio_attention=audio,
            video_attention=video,
        )

    def _drop(self, boundary: int, media: Tensor, hidden: Tensor, angles: Angles) -> tuple[Tensor, Angles]:
        """Reduce `hidden` and `angles` to text and the audio and video in rows `media`, which are in any order."""
        alive, prompt = self._living()
        dropped = alive.is_media.index_fill(0, media, 0)
        rows = topk.zeros_first(dropped, prompt.text.shape[0] + media.shape[0])
        self._alive = alive.take(rows, media.shape[0])
        self._kept[boundary] = self._alive.index
        cos, sin = angles
        return hidden.index_select(1, rows), (cos.index_select(1, rows), sin.index_select(1, rows))


@dataclass(frozen=True, slots=True)
class _Alive:
    """Tokens still in the sequence.

    Attributes:
        index: (n,) prompt index of every row, ascending.
        is_media: (n,) uint8, 1 where the row is audio or video.
        rows: (m,) rows of audio and video, ascending.
    """

    index: Tensor
    is_media: Tensor
    rows: Tensor

    @property
    def media(self) -> Tensor:
        """(m,) prompt indices of audio and video."""
        return self.index[self.rows]

    def take(self, rows: Tensor, media: int) -> _Alive:
        """The tokens in `rows` (k,), ascending, `media` of which are audio or video."""
        is_media = self.is_media[rows]
        return _Alive(self.index[rows], is_media, is_media.sort(stable=True).indices[rows.shape[0] - media :])


@dataclass(frozen=True, slots=True)
class _PromptTensors:
    """The token map on the device: prompt indices by kind, and modality and chunk of every token."""

    everything: Tensor
    is_media: Tensor
    text: Tensor
    media: Tensor
    audio: Tensor
    video: Tensor
    query: Tensor
    late_text: Tensor
    modality: Tensor
    chunk: Tensor

    @classmethod
    def of(cls, tokens: TokenMap, device: torch.device) -> _PromptTensors:
        def put(array: Any) -> Tensor:
            return torch.as_tensor(array).to(device, non_blocking=True)

        text, media = tokens.rows(Modality.TEXT), (tokens.modality != Modality.TEXT).nonzero()[0]
        return cls(
            everything=torch.arange(len(tokens), device=device),
            is_media=put((tokens.modality != Modality.TEXT).astype("uint8")),
            text=put(text),
            media=put(media),
            audio=put(tokens.rows(Modality.AUDIO)),
            video=put(tokens.rows(Modality.VIDEO)),
            query=put(tokens.is_query.nonzero()[0]),
            late_text=put(text[text > media[0]] if len(media) else text),
            modality=put(tokens.modality),
            chunk=put(tokens.chunk).long(),
        )


class _View:
    """`LayerView` over one layer of a running prefill."""

    def __init__(self, layer: int, state: PruningState, entering: Tensor, leaving: Tensor, angles: Angles, cache: Any) -> None:
        self.layer = layer
        self.num_layers = state.adapter.num_layers
        self._adapter = state.adapter
        self._alive, self._prompt = state._living()
        self._entering, self._leaving, self._angles, self._cache = entering, leaving, angles, cache
        self._scores = state.scores

    @property
    def modality(self) -> Tensor:
        return self._prompt.modality[self._alive.media]

    @property
    def chunk(self) -> Tensor:
        return self._prompt.chunk[self._alive.media]

    @property
    def index(self) -> Tensor:
        return self._alive.media

    @property
    def hidden(self) -> Tensor:
        return self._leaving[self._alive.rows]

    @property
    def text_hidden(self) -> Tensor:
        return self._leaving[torch.searchsorted(self._alive.index, self._prompt.text)]

    def attention(self, queries: Queries = "query") -> Tensor:
        alive, prompt = self._alive, self._prompt
        asking = {"query": prompt.query, "last": prompt.everything[-1:], "text": prompt.late_text}[queries]
        at = torch.searchsorted(alive.index, asking)
        cos, sin = self._angles
        layer = self._adapter.layer(self.layer)
        projected = layer.queries(self._entering[:, at], (cos[:, at], sin[:, at]))[0]
        if self._cache is None:
            keys = layer.keys_and_values(self._entering, self._angles)[0][0]
        else:
            keys = cached_keys(self._cache, self.layer)
        received = scoring.attention_received(projected, keys, at, scale=layer.scale, targets=alive.rows)
        self._scores[self.layer] = (queries, received)
        return received


def _with_merged(hidden: Tensor, selection: Selection, prompt: _PromptTensors) -> Tensor:
    """A copy of `hidden` (1, n, d) in which survivors carry the embeddings a merging stage gave them."""
    hidden = hidden.clone()
    for kept, embeds, places in (
        (selection.audio, selection.audio_embeds, prompt.audio),
        (selection.video, selection.video_embeds, prompt.video),
    ):
        if embeds is not None:
            hidden[0, places[kept]] = embeds.to(hidden.dtype)
    return hidden
