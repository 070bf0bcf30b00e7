"""The only file that spells transformers' innards: where a Qwen2.5-Omni thinker keeps its parts, and how they are called.

Attribute paths, argument names, tuple shapes and the registration of attention functions differ between transformers versions.
Everything else in the package works through `QwenOmniAdapter` and the call helpers below. docs/develop/versions.md lists what changed when.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, rms_norm

from omnidrop_cli.errors import ModelError
from omnidrop_cli.kernels import runs_on
from omnidrop_cli.kernels.nf4_weights import NF4Layer, alike, nf4_weights
from omnidrop_cli.model.decoder_layer import Angles, DecoderLayer
from omnidrop_cli.model.encoder_attention import ReceivedAttention, attend_windows, received_attention
from omnidrop_cli.model.nf4_products import products_by_kernels

CACHE_NAMES = ("cache", "past_key_values")
"""The argument in which a decoder and its layers receive their cache: from transformers 5.24, and before."""

DECODER_PATHS = ("model.language_model", "model", "language_model", "")
"""Where the decoder stack is: in a thinker from 5.22, in a thinker before, in a thinker without its head, itself."""

ENCODER_PATHS = ("model.", "")
"""Where the encoders are: from 5.22, and before."""

ALIGNED_WIDTH = 8
"""Numbers in 16 bytes of bfloat16, which GPUs load at once."""

PACKED = "omnidrop_packed_flash"
"""Name in transformers' attention interface. Qwen's encoders hand over a whole packed sequence with its window lengths when the
name contains "flash", and split it themselves otherwise."""


class QwenOmniAdapter:
    """A thinker (or its bare decoder stack) by the parts the package uses.

    Attributes: `text_model` the decoder stack, `layers` its decoder layers, `norm` its last norm, `lm_head` the output matrix,
    `audio_encoder` and `vision_encoder`; the last three are None for a bare decoder stack.
    """

    def __init__(self, model: Any) -> None:
        """Raises `ModelError` for a model without decoder layers of the expected shape."""
        self.model = model
        self.text_model = _find_decoder(model)
        self.layers: nn.ModuleList = self.text_model.layers
        self.norm = _part(self.text_model, "norm")
        self.lm_head: Any = getattr(model, "lm_head", None)
        self.audio_encoder = _encoder(model, "audio_tower")
        self.vision_encoder = _encoder(model, "visual")
        self._embedding = _part(self.text_model, "embed_tokens")
        self._rotary = _part(self.text_model, "rotary_emb")
        self._layer_cache = _cache_parameter(self.layers[0])
        self._attention_cache = _cache_parameter(_part(self.layers[0], "self_attn"))

    # ------------------------------------------------------------ the decoder

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def embedding_weight(self) -> Tensor:
        """(vocab, hidden) token embeddings; their device and dtype are those of the activations."""
        weight: Tensor = self._embedding.weight
        return weight

    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings (…, hidden) of `ids` (…)."""
        embedded: Tensor = self._embedding(ids)
        return embedded

    def rotary(self, hidden: Tensor, positions: Tensor) -> Angles:
        """Rotary angles, in the dtype of `hidden`, of TMRoPE `positions` (3, 1, n)."""
        cos, sin = self._rotary(hidden, positions)
        return cos, sin

    def run_layer(self, number: int, hidden: Tensor, angles: Angles, *, mask: Tensor | None = None, cache: Any = None) -> Tensor:
        """Hidden states (1, n, hidden) after transformers' own layer `number`.

        Args:
            mask: additive (1, 1, n, keys); None means causal, counted from the first row.
            cache: takes the layer's keys and values; anything with transformers' `Cache.update`.
        """
        output = self.layers[number](
            hidden, attention_mask=mask, position_embeddings=angles, use_cache=cache is not None, **{self._layer_cache: cache}
        )
        return first_tensor(output)

    def logits(self, hidden: Tensor) -> Tensor:
        """Float32 logits (vocab,) of the last row of `hidden` (1, n, hidden), which leaves the last layer."""
        return self._output(_normed(self.norm, hidden[:, -1:])[0])[0]

    def row_logits(self, hidden: Tensor) -> Tensor:
        """Float32 logits (n, vocab) of every row of `hidden` (1, n, hidden), which leaves the last layer."""
        return self._output(_normed(self.norm, hidden)[0])

    def _output(self, normed: Tensor) -> Tensor:
        """Float32 logits (n, vocab) of `normed` (n, hidden). bitsandbytes' int8 products on CUDA take no single dimension."""
        if self.lm_head is None:
            raise ModelError("this model has no output matrix", "load a thinker for generation")
        logits: Tensor = self.lm_head(normed).float()
        return logits

    def replace_head(self, head: nn.Module) -> None:
        """Use `head` as the output matrix; an embedding table that was tied to the one before is its own from then on."""
        self.model.lm_head = self.lm_head = head

    def layer(self, number: int) -> DecoderLayer:
        """Layer `number` by its parts."""
        return self._by_parts[number]

    @cached_property
    def _by_parts(self) -> tuple[DecoderLayer, ...]:
        """Every layer by its parts, found once: a decode step would look up 300 attributes of modules."""
        layers = tuple(self._parts_of(number) for number in range(self.num_layers))
        many = None if self.nf4_layers is None else products_by_kernels(self.nf4_layers, layers[0])
        if many is None:
            return layers
        return tuple(replace(layer, many=products) for layer, products in zip(layers, many, strict=True))

    @cached_property
    def nf4_layers(self) -> tuple[NF4Layer, ...] | None:
        """Every layer by the tensors behind it, found once; None where kernels do not run here or cannot read one of the layers."""
        if not runs_on(self.embedding_weight.device):
            return None
        layers = tuple(self.nf4_layer(number) for number in range(self.num_layers))
        return None if None in layers else layers  # type: ignore[return-value]

    def _parts_of(self, number: int) -> DecoderLayer:
        layer = self.layers[number]
        attention, linears = _part(layer, "self_attn"), self.linears(number)
        return DecoderLayer(
            number=number,
            attention_norm=partial(_normed, _part(layer, "input_layernorm")),
            q=linears["q"],
            k=linears["k"],
            v=linears["v"],
            o=linears["o"],
            mlp_norm=partial(_normed, _part(layer, "post_attention_layernorm")),
            mlp=_part(layer, "mlp"),
            q_norm=getattr(attention, "q_norm", None),
            k_norm=getattr(attention, "k_norm", None),
            head_dim=attention.head_dim,
            scale=float(_part(attention, "scaling")),
            flash=self.text_model.config._attn_implementation == "flash_attention_2",
        )

    def nf4_layer(self, number: int) -> NF4Layer | None:
        """Layer `number` by the tensors behind it; None where it does more than a plain Qwen2.5 layer in NF4."""
        layer = self.layers[number]
        attention, mlp = _part(layer, "self_attn"), _part(layer, "mlp")
        silu = self.text_model.config.hidden_act == "silu" and not mlp._forward_hooks and not mlp._forward_pre_hooks
        if not silu or hasattr(attention, "q_norm") or hasattr(attention, "k_norm"):
            return None
        found = {name: nf4_weights(linear, self.embedding_weight.dtype) for name, linear in self.linears(number).items()}
        parts = {name: weights for name, weights in found.items() if weights is not None}
        if len(parts) < len(found):
            return None
        qkv, branches = (parts["q"], parts["k"], parts["v"]), (parts["gate"], parts["up"])
        if not alike(qkv) or not alike(branches) or branches[0].bias is not None:
            return None
        norms = [_part(layer, name) for name in ("input_layernorm", "post_attention_layernorm")]
        attention_norm, mlp_norm = ((norm.weight, float(norm.variance_epsilon)) for norm in norms)
        return NF4Layer(
            attention_norm=attention_norm,
            qkv=qkv,
            o=parts["o"],
            mlp_norm=mlp_norm,
            gate=branches[0],
            up=branches[1],
            down=parts["down"],
            head_dim=attention.head_dim,
            scale=float(_part(attention, "scaling")),
        )

    def linears(self, number: int) -> dict[str, nn.Module]:
        """The projections of layer `number`, which quantisation replaces: q, k, v, o, gate, up, down."""
        layer = self.layers[number]
        attention, mlp = _part(layer, "self_attn"), _part(layer, "mlp")
        parts = {name: _part(attention, f"{name}_proj") for name in "qkvo"}
        return parts | {name: _part(mlp, f"{name}_proj") for name in ("gate", "up", "down")}

    def run_stock(self, embeds: Tensor, positions: Tensor, cache: Any = None) -> Tensor:
        """transformers' own forward over `embeds` (1, n, d), unpruned unless hooks do: normed states (1, n, d) that leave the last layer.

        The slow reference that the layer loop is held against.
        """
        output = self.text_model(
            inputs_embeds=embeds,
            position_ids=positions,
            attention_mask={"full_attention": None},
            use_cache=cache is not None,
            **{_cache_parameter(self.text_model): cache},
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def check_prunable(self) -> None:
        """Raises `ModelError` for a decoder whose layers cannot have different lengths."""
        config = self.text_model.config
        if getattr(config, "_attn_implementation", "sdpa") == "eager":
            raise ModelError("eager attention sizes its mask from layer 0 and cannot run on layers of different lengths", "load with sdpa")
        if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
            raise ModelError("sliding-window layers cannot be pruned: the window counts positions that are gone")

    # ------------------------------------------------------------ the encoders

    def encode_audio(self, mel: Tensor) -> Tensor:
        """Embeddings (n, hidden) of `mel` (mel bins, frames), one clip."""
        length = torch.tensor([mel.shape[1]], device=mel.device)
        encoded: Tensor = self.audio_encoder(mel, feature_lens=length, aftercnn_lens=(length - 1) // 2 + 1).last_hidden_state
        return encoded

    def encode_video(self, patches: Tensor, grid_thw: Tensor) -> Tensor:
        """Embeddings (n, hidden) of `patches` (patches, values); `grid_thw` (1, 3) counts grids and patches per column and row."""
        encoded: Tensor = self.vision_encoder(patches, grid_thw=grid_thw).pooler_output
        return encoded

    def place_encoders(self, device: torch.device) -> None:
        """Move both encoders to `device`, unless they are there."""
        for encoder in (self.audio_encoder, self.vision_encoder):
            if next(encoder.parameters()).device != device:
                encoder.to(device)

    def speed_up_encoders(self) -> None:
        """Change the vision encoder to what a GPU computes fast; its outputs stay the same but for rounding.

        RMS norms become one kernel each. MLPs of a width that is no multiple of 8 (3,420 in Qwen2.5-Omni) are filled up with zeros: their
        products ran in kernels for unaligned rows, which took a third of the encoder's time on an H100. A saved model must not have this.
        """
        for block in self.vision_encoder.blocks:
            block.norm1, block.norm2 = _one_kernel(block.norm1), _one_kernel(block.norm2)
            _widen(block.mlp.gate_proj, block.mlp.up_proj, block.mlp.down_proj)

    @property
    def audio_window(self) -> int:
        """Mel frames that attend to each other in the audio encoder: 200 are two seconds."""
        return int(self.audio_encoder.n_window) * 2

    def set_up_attention(self) -> None:
        """Prepare a loaded model's attention. No weight or module changes.

        Both encoders batch their attention windows, where they would run SDPA window by window. cuDNN's attention is switched off: it
        builds and keeps a plan for every exact length, 42 to 70 ms each on an H100, and a pruned prefill has a length per layer.
        """
        torch.backends.cuda.enable_cudnn_sdp(False)
        from transformers import AttentionInterface

        AttentionInterface.register(PACKED, _packed_attention)
        for encoder in (self.vision_encoder, self.audio_encoder):
            if encoder.config._attn_implementation == "sdpa":
                encoder.config._attn_implementation = PACKED

    @contextmanager
    def stock_encoder_attention(self) -> Iterator[None]:
        """Inside the block both encoders run transformers' own SDPA, window by window."""
        encoders = (self.vision_encoder, self.audio_encoder)
        before = [encoder.config._attn_implementation for encoder in encoders]
        for encoder in encoders:
            encoder.config._attn_implementation = "sdpa"
        try:
            yield
        finally:
            for encoder, name in zip(encoders, before, strict=True):
                encoder.config._attn_implementation = name

    @contextmanager
    def capture_audio_attention(self, scope: Literal["window", "clip"] = "window") -> Iterator[ReceivedAttention]:
        """Attention received by every audio token (25 a second) in the audio encoder's last layer, while it runs inside the block.

        Softmax over keys, mean over heads, sum over queries, mean over the two frames of a token (OmniZip, arXiv 2511.14582 Eq. 2).
        `scope` "window" lets frames attend inside the encoder's own two-second windows: what the encoder computed, and what SEATS reads
        (arXiv 2605.20035). "clip" lets every frame attend to all frames that pass inside the block, as OmniZip's published code does:
        quadratic time, linear memory, and it compares positions that the encoder numbers again in each window. One clip per block.
        """
        capture = ReceivedAttention()
        attention = self.audio_encoder.layers[-1].self_attn
        projected: list[tuple[Tensor, Tensor]] = []
        dtype = attention.q_proj.weight.dtype

        def finish(q: Tensor, k: Tensor, kwargs: dict[str, Any]) -> None:
            if scope == "clip":
                projected.append((q.to(dtype), k.to(dtype)))  # in the type they were computed in, which takes less memory
            else:
                read(q, k, _required(kwargs, "cu_seqlens").tolist())

        def read(q: Tensor, k: Tensor, ends: Sequence[int]) -> None:
            frames = received_attention(q, k, ends, attention.scaling)
            pairs = len(frames) // 2  # the encoder's pooling drops an odd last frame too
            capture.parts.append(frames[: 2 * pairs].view(pairs, 2).mean(1))

        def read_clip() -> None:
            if projected:
                q, k = (torch.cat(parts).float() for parts in zip(*projected, strict=True))
                projected.clear()
                read(q, k, [0, len(q)])

        capture.pending = read_clip
        with _after_attention(attention, attention.q_proj, attention.k_proj, attention.num_heads, finish):
            yield capture

    @contextmanager
    def capture_video_attention(self, grids_per_window: int = 2) -> Iterator[ReceivedAttention]:
        """Attention received by every video token in the vision encoder's last block, in prompt order, while it runs inside the block.

        Softmax over the patches of `grids_per_window` temporal grids (two: one chunk of the prompt, as SEATS, arXiv 2605.20035; the
        encoder itself attends inside one), mean over heads, sum over queries, mean over the patches merged into a token.
        """
        from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import apply_rotary_pos_emb_vision
        from transformers.vision_utils import get_vision_window_index

        capture = ReceivedAttention()
        encoder = self.vision_encoder
        attention, merge = encoder.blocks[-1].attn, encoder.spatial_merge_size
        grids: list[Tensor] = []

        def begin(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            grids[:] = [kwargs["grid_thw"] if "grid_thw" in kwargs else args[1]]

        def finish(q: Tensor, k: Tensor, kwargs: dict[str, Any]) -> None:
            ends = [0]
            for count, height, width in grids[0].tolist():
                for first in range(0, count, grids_per_window):
                    ends.append(ends[-1] + min(grids_per_window, count - first) * height * width)
            q, k = apply_rotary_pos_emb_vision(q, k, *_required(kwargs, "position_embeddings"))
            patches = received_attention(q, k, ends, attention.scaling)
            tokens = patches.view(-1, merge * merge).mean(1)
            # Blocks see tokens in window order; the encoder restores the prompt's order after its last block, and so does this.
            order, _ = get_vision_window_index(grids[0], merge, encoder.window_size, encoder.patch_size)
            capture.parts.append(tokens[torch.argsort(order).to(tokens.device)])

        handle = encoder.register_forward_pre_hook(begin, with_kwargs=True)
        try:
            with _after_attention(attention, attention.q, attention.k, attention.num_heads, finish):
                yield capture
        finally:
            handle.remove()


# ---------------------------------------------------------------- loading


def set_attention(config: Any, name: str) -> None:
    """Choose the attention implementation of a thinker that is built from `config`."""
    config._attn_implementation = name


def unquantized_names(config: Any) -> list[str]:
    """Full names of the modules that stay in 16 or 32 bit: both encoders and the output matrix of the thinker that `config` describes.

    bitsandbytes takes names. They are found by identity in a model without storage, since a name that matches nothing protects nothing
    and is not reported: before transformers 5.22 the encoders had other names.
    """
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    with torch.device("meta"):
        adapter = QwenOmniAdapter(Qwen2_5OmniThinkerForConditionalGeneration(deepcopy(config)))
    kept = {id(part) for part in (adapter.audio_encoder, adapter.vision_encoder, adapter.lm_head)}
    return [name for name, module in adapter.model.named_modules() if id(module) in kept]


# ---------------------------------------------------------------- calls as hooks see them


@dataclass(frozen=True, slots=True)
class DecoderCall:
    """What a forward pre-hook on the decoder stack needs of its call: prompts, rows, and rows that the cache holds already."""

    batch: int
    rows: int
    cached: int


def decoder_call(kwargs: Mapping[str, Any]) -> DecoderCall:
    """Read a call of the decoder stack."""
    embeds = kwargs.get("inputs_embeds")
    shape = embeds.shape if embeds is not None else _required(kwargs, "input_ids").shape
    cache = cache_in(kwargs)
    return DecoderCall(batch=shape[0], rows=shape[1], cached=0 if cache is None else cache.get_seq_length())


def causal_call(kwargs: Mapping[str, Any], maskless: bool) -> dict[str, Any]:
    """Arguments of a call of the decoder stack for one unpadded prompt; `maskless` where causality is all there is to mask."""
    changed = dict(kwargs)
    if maskless and not isinstance(kwargs.get("attention_mask"), dict):
        changed["attention_mask"] = {"full_attention": None}
    positions = kwargs.get("position_ids")
    if positions is not None and positions.ndim == 3 and positions.shape[0] == 4:
        changed["position_ids"] = positions[1:]  # row 0 serves packed sequences only, and gaps in it would look like packing
    return changed


def layer_call(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, Angles]:
    """Hidden states and rotary angles of a call of a decoder layer."""
    hidden = args[0] if args else _required(kwargs, "hidden_states")
    return hidden, _required(kwargs, "position_embeddings")


def with_layer_call(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], hidden: Tensor, angles: Angles
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same call with other hidden states and angles."""
    changed = {**kwargs, "position_embeddings": angles}
    if args:
        return (hidden, *args[1:]), changed
    return args, {**changed, "hidden_states": hidden}


def cache_in(kwargs: Mapping[str, Any]) -> Any:
    """The cache among the arguments of a call, found by what it can do, not by its name; None where there is none."""
    return next((value for value in kwargs.values() if hasattr(value, "get_seq_length")), None)


def cached_keys(cache: Any, number: int) -> Tensor:
    """(kv heads, n, head_dim) keys that layer `number` has cached."""
    keys: Tensor = cache.layers[number].keys[0]
    return keys


def first_tensor(output: Any) -> Tensor:
    """Hidden states in the output of a layer or an attention module, which is a tensor or a tuple that begins with it."""
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden


def with_first_tensor(output: Any, hidden: Tensor) -> Any:
    """`output` with its hidden states replaced."""
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


# ---------------------------------------------------------------- pieces


def _normed(norm: Any, rows: Tensor) -> Tensor:
    """RMS norm of `rows` (…, hidden): one kernel on a GPU, where the module takes eight; the module itself on a CPU, for equal bits."""
    normed: Tensor = rms_norm(rows, rows.shape[-1:], norm.weight, norm.variance_epsilon) if rows.is_cuda else norm(rows)
    return normed


def _one_kernel(norm: Any) -> nn.RMSNorm:
    """torch's own RMS norm with the weight of transformers'."""
    if isinstance(norm, nn.RMSNorm):
        return norm
    own = nn.RMSNorm(norm.weight.shape, eps=norm.variance_epsilon, elementwise_affine=False)
    own.weight = norm.weight
    return own


def _widen(gate: nn.Linear, up: nn.Linear, down: nn.Linear) -> None:
    """Fill a gated MLP up with zeros to a width that is a multiple of `ALIGNED_WIDTH`."""
    missing = -down.in_features % ALIGNED_WIDTH
    if not missing:
        return
    for linear in (gate, up):
        linear.weight = nn.Parameter(pad(linear.weight, (0, 0, 0, missing)), requires_grad=False)
        if linear.bias is not None:
            linear.bias = nn.Parameter(pad(linear.bias, (0, missing)), requires_grad=False)
        linear.out_features += missing
    down.weight = nn.Parameter(pad(down.weight, (0, missing)), requires_grad=False)
    down.in_features += missing


def _find_decoder(model: Any) -> Any:
    for path in DECODER_PATHS:
        found = _follow(model, path)
        if isinstance(found, nn.Module) and isinstance(getattr(found, "layers", None), nn.ModuleList) and hasattr(found, "embed_tokens"):
            return found
    raise ModelError(f"{type(model).__name__} has no decoder layers that omnidrop knows", _versions_hint())


def _encoder(model: Any, name: str) -> Any:
    return next((found for path in ENCODER_PATHS if (found := _follow(model, path + name)) is not None), None)


def _follow(model: Any, path: str) -> Any:
    for name in path.split(".") if path else ():
        model = getattr(model, name, None)
    return model


def _part(module: Any, name: str) -> Any:
    """A submodule. Raises `ModelError` where this transformers calls it otherwise."""
    found = getattr(module, name, None)
    if found is None:
        raise ModelError(f"{type(module).__name__} of this transformers has no `{name}`", _versions_hint())
    return found


def _required(kwargs: Mapping[str, Any], name: str) -> Any:
    """An argument of a call. Raises `ModelError` where this transformers calls it otherwise."""
    if name not in kwargs:
        raise ModelError(f"this transformers passes no `{name}`", _versions_hint())
    return kwargs[name]


def _cache_parameter(module: nn.Module) -> str:
    """Name of the parameter in which `module` takes its cache."""
    parameters = inspect.signature(module.forward).parameters
    for name in CACHE_NAMES:
        if name in parameters:
            return name
    raise ModelError(f"{type(module).__name__} of this transformers takes no cache under a known name", _versions_hint())


def _versions_hint() -> str:
    return "docs/develop/versions.md lists the transformers versions that work"


def _packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    cu_seq_lens_q: Tensor,
    max_length_q: int,
    **_: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: (1, heads, n, head_dim) each → (1, n, heads, head_dim), inside the windows of one sequence."""
    q, k, v = (packed[0].transpose(0, 1) for packed in (query, key, value))
    return attend_windows(q, k, v, cu_seq_lens_q, max_length_q, scaling)[None], None


@contextmanager
def _after_attention(
    attention: nn.Module, query: nn.Module, key: nn.Module, heads: int, finish: Callable[[Tensor, Tensor, dict[str, Any]], None]
) -> Iterator[None]:
    """Call `finish(q, k, kwargs)` after each run of `attention`, with its projections (n, heads, head_dim) in float32."""
    projected: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, _: Any, output: Tensor) -> None:
        projected[module] = output

    def done(_: nn.Module, __: Any, kwargs: dict[str, Any], ___: Any) -> None:
        q, k = (projected.pop(part).detach().unflatten(-1, (heads, -1)).float() for part in (query, key))
        finish(q, k, kwargs)

    handles = [
        query.register_forward_hook(keep),
        key.register_forward_hook(keep),
        attention.register_forward_hook(done, with_kwargs=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
