"""The layer hook: runs a method's stages inside any forward of a thinker, and keeps the trace.

Knows: how survivors travel (hidden states and rotary angles are sliced into new tensors, true TMRoPE angles stay; every layer's
own cache keeps what that layer saw, so lengths are ragged). Does not know: any method, any score, how a prompt was made.

All state lives in one object that dies with the `with` block; nothing is stored on a module. Batch of one, no padding: the mask is
then nothing but causality, so the decoder gets none. Counts are settled on the host, so a prefill never waits for the device;
kept indices are copied back once, when the trace is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from omnidrop_cli.model import adapter
from omnidrop_cli.outputs import Counts, Modality, TokenMap, Trace
from omnidrop_cli.prune import scoring
from omnidrop_cli.prune.base import InLLMStage, InputView, LayerSelection, Method, Plan, PromptInfo, Queries, Selection

NO_MASK = {"full_attention": None}
"""As `attention_mask`, this tells the text model that causality is all there is to mask."""

Saliency = Tensor | Callable[[], "Tensor | None"] | None


@contextmanager
def pruning(
    model: nn.Module,
    method: Method,
    tokens: TokenMap,
    *,
    audio_attention: Saliency = None,
    video_attention: Saliency = None,
    checkpoint: Path | None = None,
) -> Iterator[PruningRun]:
    """Prune every prefill of `tokens` that runs inside the block; the yielded run tells what was kept.

    Works around the project's own prefill and around stock `generate`. `audio_attention` (n_audio,) and `video_attention`
    (n_video,) are the attention received in the encoders' last layers, as tensors, or as callables asked once the towers have run.
    `checkpoint` is where the model's weights lie, for methods with a trained part.
    Raises `ValueError` from the method's plan, from a prompt of another length, or from a batch; `TypeError` for an unknown decoder.
    """
    text_model = adapter.text_model_of(model)
    layers = list(text_model.layers)  # type: ignore[arg-type]  # checked to be a ModuleList
    plan = method.plan(PromptInfo(tokens=tokens, num_layers=len(layers), checkpoint=checkpoint))
    run = PruningRun(method.name, plan, tokens, layers, audio_attention, video_attention)
    handles = [] if plan == Plan(metadata=plan.metadata) else run.install(text_model)
    try:
        yield run
    finally:
        for handle in handles:
            handle.remove()


class PruningRun:
    """State of the block: what is alive now, what every layer kept. A new prefill starts it afresh."""

    def __init__(
        self,
        method_name: str,
        plan: Plan,
        tokens: TokenMap,
        layers: list[nn.Module],
        audio_attention: Saliency,
        video_attention: Saliency,
    ) -> None:
        self.plan = plan
        self._method_name = method_name
        self._tokens = tokens
        self._layers = layers
        self._saliency = (audio_attention, video_attention)
        self._prompt: _PromptTensors | None = None
        self._alive: _Alive | None = None
        self._kept: list[Tensor | None] = [None] * (len(layers) + 1)
        self._active = False

    @property
    def notes(self) -> Mapping[str, float | int | str]:
        """Facts the plan wants reported, such as solved schedule parameters."""
        return self.plan.metadata or {}

    def install(self, text_model: nn.Module) -> list[Any]:
        """Register on the decoder and on each of its layers; the handles, to be removed by the caller."""
        handles = [text_model.register_forward_pre_hook(self._on_decoder, with_kwargs=True)]
        for number, layer in enumerate(self._layers):
            handles.append(layer.register_forward_pre_hook(self._entering(number), with_kwargs=True))
            handles.append(layer.register_forward_hook(self._leaving(number), with_kwargs=True))
        return handles

    def trace(self) -> Trace:
        """What every layer saw in the last prefill. Copies the kept indices to the host once."""
        everything = torch.arange(len(self._tokens))
        kept = []
        latest = everything.numpy()
        for tensor in self._kept:
            latest = latest if tensor is None else tensor.cpu().numpy()
            kept.append(latest)
        modality = self._tokens.modality
        counted: dict[int, Counts] = {}
        for indices in kept:
            if id(indices) not in counted:
                of = modality[indices]
                counted[id(indices)] = Counts(*(int((of == m).sum()) for m in (Modality.TEXT, Modality.AUDIO, Modality.VIDEO)))
        counts = [counted[id(indices)] for indices in kept]
        return Trace(
            method=self._method_name,
            prompt=self._tokens.counts(),
            entering=tuple(counts[:-1]),
            leaving=tuple(counts[1:]),
            kept=tuple(kept),
        )

    # ------------------------------------------------------------ the hooks

    def _on_decoder(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        embeds = kwargs.get("inputs_embeds")
        shape = embeds.shape if embeds is not None else kwargs["input_ids"].shape
        if shape[0] != 1:
            raise ValueError(f"pruning runs one prompt at a time, not a batch of {shape[0]}")
        cache = adapter.cache_in(kwargs)
        rows = shape[1]
        self._active = rows > 1 and (cache is None or cache.get_seq_length() == 0)
        if self._active:
            if rows != len(self._tokens):
                raise ValueError(f"the prompt has {rows} tokens, its token map {len(self._tokens)}")
            self._alive = None
            self._kept = [None] * (len(self._layers) + 1)
        kwargs = dict(kwargs)
        mask = kwargs.get("attention_mask")
        if not isinstance(mask, dict) and (self._active or rows == 1):
            kwargs["attention_mask"] = NO_MASK
        positions = kwargs.get("position_ids")
        if positions is not None and positions.ndim == 3 and positions.shape[0] == 4:
            kwargs["position_ids"] = positions[1:]  # row 0 serves packed sequences only, and gaps in it would look like packing
        return args, kwargs

    def _entering(self, number: int) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]] | None]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            if not self._active:
                return None
            hidden, in_args = (args[0], True) if args else (kwargs["hidden_states"], False)
            if number == 0:
                hidden = self._begin(hidden, kwargs["position_embeddings"])
            alive = self._living()
            alive.layer_input = hidden[0]
            kwargs = {**kwargs, "position_embeddings": (alive.cos, alive.sin)}
            if in_args:
                return (hidden, *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": hidden}

        return hook

    def _leaving(self, number: int) -> Callable[..., Tensor | None]:
        def hook(module: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor | None:
            stage = self.plan.in_llm_stage
            if not self._active or stage is None:
                return None
            alive = self._living()
            keep = stage.keep_count(number, alive.media_count)
            if keep < alive.media_count:
                view = _View(number, module, self, alive, output[0], adapter.cache_in(kwargs))
                chosen = self._chosen(stage, view, keep)
                if isinstance(chosen, LayerSelection):
                    rows = torch.searchsorted(alive.index, alive.media[chosen.index])
                    output = output.index_copy(1, rows, chosen.hidden[None].to(output.dtype))
                    chosen = chosen.index
                output = self._drop(number + 1, alive, output, alive.media[chosen].sort().values)
            alive.layer_input = None
            return output

        return hook

    # ------------------------------------------------------------ what they do

    def _living(self) -> _Alive:
        if self._alive is None or self._prompt is None:
            raise RuntimeError("a decoder layer ran outside a prefill of its decoder")
        return self._alive

    def _begin(self, hidden: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        self._prompt = prompt = _PromptTensors.of(self._tokens, hidden.device)
        self._alive = alive = _Alive(
            index=prompt.everything, media=prompt.media, media_count=prompt.media.shape[0], cos=angles[0], sin=angles[1]
        )
        if self.plan.input_stage is None:
            return hidden
        selection = self.plan.input_stage(self._input_view(hidden[0], prompt))
        if selection.audio_embeds is not None or selection.video_embeds is not None:
            hidden = _with_merged(hidden, selection, prompt)
        media = torch.cat((prompt.audio[selection.audio], prompt.video[selection.video])).sort().values
        return self._drop(0, alive, hidden, media)

    def _input_view(self, hidden: Tensor, prompt: _PromptTensors) -> InputView:
        audio, video = (s() if callable(s) else s for s in self._saliency)
        return InputView(
            tokens=self._tokens,
            audio=hidden[prompt.audio],
            video=hidden[prompt.video],
            query=hidden[prompt.query],
            audio_attention=audio,
            video_attention=video,
        )

    def _chosen(self, stage: InLLMStage, view: _View, keep: int) -> Tensor | LayerSelection:
        chosen = stage(view, keep)
        count = (chosen.index if isinstance(chosen, LayerSelection) else chosen).shape[0]
        if count != keep:
            raise ValueError(f"{self._method_name} planned {keep} survivors after layer {view.layer} and chose {count}")
        return chosen

    def _drop(self, boundary: int, alive: _Alive, hidden: Tensor, media: Tensor) -> Tensor:
        """`hidden` (1, n, d) reduced to text and the prompt indices `media`; the state follows."""
        prompt = self._prompt
        if prompt is None:
            raise RuntimeError("nothing to drop before a prefill began")
        index = torch.cat((prompt.text, media)).sort().values
        rows = torch.searchsorted(alive.index, index)
        alive.cos, alive.sin = alive.cos.index_select(1, rows), alive.sin.index_select(1, rows)
        alive.index, alive.media, alive.media_count = index, media, media.shape[0]
        self._kept[boundary] = index
        # The engine runs the last layer for the last row alone, which is text and stays.
        return hidden if hidden.shape[1] == 1 else hidden.index_select(1, rows)


@dataclass(slots=True)
class _Alive:
    """Prompt indices still in the sequence, ascending; which of them are audio or video; their rotary angles (1, n, dh)."""

    index: Tensor
    media: Tensor
    media_count: int
    cos: Tensor
    sin: Tensor
    layer_input: Tensor | None = None


@dataclass(frozen=True, slots=True)
class _PromptTensors:
    """The token map on the device: prompt indices by kind, and modality and chunk of every token."""

    everything: Tensor
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
    """The contract's `LayerView` over one layer of a running prefill."""

    def __init__(self, layer: int, module: nn.Module, run: PruningRun, alive: _Alive, output: Tensor, cache: Any) -> None:
        prompt = run._prompt
        if prompt is None or alive.layer_input is None:
            raise RuntimeError("a view exists only inside a prefill")
        self.layer = layer
        self.num_layers = len(run._layers)
        self._module, self._alive, self._prompt = module, alive, prompt
        self._input, self._output, self._cache = alive.layer_input, output, cache

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
        return self._output[torch.searchsorted(self._alive.index, self._alive.media)]

    @property
    def text_hidden(self) -> Tensor:
        return self._output[torch.searchsorted(self._alive.index, self._prompt.text)]

    def attention(self, queries: Queries = "query") -> Tensor:
        alive, prompt = self._alive, self._prompt
        asking = {"query": prompt.query, "last": prompt.everything[-1:], "text": prompt.late_text}[queries]
        at = torch.searchsorted(alive.index, asking)
        cos, sin = alive.cos[0], alive.sin[0]
        projected = adapter.queries_of(self._module, self._input[at], cos[at], sin[at])
        if self._cache is None:
            keys = adapter.keys_of(self._module, self._input, cos, sin)
        else:
            keys = self._cache.layers[self.layer].keys[0]
        targets = torch.searchsorted(alive.index, alive.media)
        return scoring.attention_received(projected, keys, at, scale=adapter.scale_of(self._module), targets=targets)


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
