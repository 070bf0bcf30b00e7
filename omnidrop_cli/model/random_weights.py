"""Thinkers with random weights: real sizes for measuring speed, tiny ones for tests.

Input: sizes. Output: a configuration and a model filled with numbers. Weights have unit gain (standard deviation one over the square root
of the inputs), so attention is neither flat nor one-hot at any size.
"""

from __future__ import annotations

from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration, Qwen2Tokenizer
from transformers.initialization import no_init_weights

from omnidrop_cli.model.adapter import QwenOmniAdapter, set_attention, unquantized_names
from omnidrop_cli.model.names import QWEN_BOUNDS, RANDOM_NOTICE
from omnidrop_cli.model.quantize import quantization_config, quantize_in_place
from omnidrop_cli.model.quiet import quiet
from omnidrop_cli.model.sizes import AudioSizes, DecoderSizes, ThinkerSizes, VisionSizes
from omnidrop_cli.model.thinker import Thinker
from omnidrop_cli.outputs import FrameBounds, LoadedModel

ADDED_TOKENS = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
"""Names and texts of the media tokens in Qwen2.5-Omni's tokenizer."""

CHAT_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

_TILE = 1_048_573
"""Elements of the random block that fills large weights; prime, so that rows of a matrix do not repeat."""


def tiny_tokenizer() -> Any:
    """A byte-level Qwen tokenizer without merges: one token per UTF-8 byte, and Qwen2.5-Omni's special tokens behind them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    shifted = iter(range(256, 512))
    # GPT-2's byte alphabet: printable bytes stand for themselves, the others for the code points after 255.
    alphabet = [chr(byte) if byte in printable else chr(next(shifted)) for byte in range(256)]
    vocab = {symbol: number for number, symbol in enumerate(alphabet)}
    vocab |= {token: 256 + number for number, token in enumerate(CHAT_TOKENS)}
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=[], extra_special_tokens=ADDED_TOKENS)
    tokenizer.add_special_tokens({"additional_special_tokens": [*CHAT_TOKENS[1:]]}, replace_extra_special_tokens=False)
    return tokenizer


def thinker_config(sizes: ThinkerSizes, tokenizer: Any) -> Qwen2_5OmniThinkerConfig:
    """A thinker's configuration with the token ids of `tokenizer`."""
    decoder = sizes.decoder
    if decoder.hidden != decoder.heads * decoder.head_dim:
        raise ValueError("a thinker's hidden size is heads times head size")
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in ADDED_TOKENS.items()}
    config = Qwen2_5OmniThinkerConfig(
        text_config=_text_config(decoder),
        vision_config=_vision_config(sizes.vision) | {"out_hidden_size": decoder.hidden},
        audio_config=_audio_config(sizes.audio) | {"output_dim": decoder.hidden},
        image_token_index=ids["image_token"],
        audio_token_index=ids["audio_token"],
        video_token_index=ids["video_token"],
        audio_start_token_id=ids["audio_bos_token"],
        audio_end_token_id=ids["audio_eos_token"],
        tie_word_embeddings=decoder.tied,
    )
    # transformers reads these two from the thinker's configuration without declaring them there.
    config.vision_start_token_id = ids["vision_bos_token"]
    config.vision_end_token_id = ids["vision_eos_token"]
    return config


def _text_config(decoder: DecoderSizes) -> dict[str, Any]:
    half = decoder.head_dim // 2
    axis = 3 * half // 8  # 24 of 64 for height and for width, the rest for time, as in Qwen2.5-Omni
    return {
        "num_hidden_layers": decoder.num_layers,
        "hidden_size": decoder.hidden,
        "num_attention_heads": decoder.heads,
        "num_key_value_heads": decoder.kv_heads,
        "intermediate_size": decoder.mlp,
        "vocab_size": decoder.vocab,
        "tie_word_embeddings": decoder.tied,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [half - 2 * axis, axis, axis]},
    }


def _vision_config(vision: VisionSizes) -> dict[str, Any]:
    return {
        "depth": vision.layers,
        "hidden_size": vision.hidden,
        "num_heads": vision.heads,
        "intermediate_size": vision.mlp,
        "patch_size": vision.patch,
        "spatial_merge_size": vision.merge,
        "temporal_patch_size": vision.temporal_patch,
        "window_size": vision.window,
        "fullatt_block_indexes": list(vision.full_blocks),
    }


def _audio_config(audio: AudioSizes) -> dict[str, Any]:
    return {
        "encoder_layers": audio.layers,
        "d_model": audio.hidden,
        "encoder_attention_heads": audio.heads,
        "encoder_ffn_dim": audio.mlp,
        "num_mel_bins": audio.mels,
        "n_window": audio.window // 2,
    }


def random_thinker(
    sizes: ThinkerSizes,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    quant: str = "none",
    attention: str = "sdpa",
    seed: int = 0,
    name: str = "random",
    frame_bounds: FrameBounds = QWEN_BOUNDS,
) -> Thinker:
    """A thinker of `sizes` with random weights and the byte tokenizer.

    Quantised layers are made one by one, so that the peak stays near the quantised size.
    """
    tokenizer = tiny_tokenizer()
    config = thinker_config(sizes, tokenizer)
    set_attention(config, attention)
    with quiet(), init_empty_weights(include_buffers=False), no_init_weights():
        model = Qwen2_5OmniThinkerForConditionalGeneration(config)
    filler = _Filler(torch.device(device), dtype, seed)
    adapter = QwenOmniAdapter(model)
    for layer in adapter.layers:
        filler.fill(layer)
        quantize_in_place(layer, quant, device)
    filler.fill(model)
    if sizes.decoder.tied:
        model.tie_weights()
    if quant != "none":  # so that a saved copy says what it is
        model.config.quantization_config = quantization_config(quant, unquantized_names(config))
    model.to(device).eval().requires_grad_(False)
    adapter.set_up_attention()
    loaded = LoadedModel(
        name=name,
        source="random weights",
        quant=quant,
        device=device,
        dtype=str(dtype).removeprefix("torch."),
        attention=attention,
        num_layers=sizes.decoder.num_layers,
        notice=RANDOM_NOTICE,
    )
    return Thinker.assemble(model, tokenizer, loaded, frame_bounds)


def tiny_sizes(layers: int = 4, heads: int = 4, kv_heads: int = 2, head_dim: int = 16, mlp: int = 128, tied: bool = False) -> ThinkerSizes:
    """The whole architecture in miniature: 14-pixel patches, 2-second sound windows, one vision block in two with full attention."""
    decoder = DecoderSizes(layers, heads * head_dim, heads, kv_heads, head_dim, mlp, vocab=320, tied=tied)
    vision = VisionSizes(layers=2, hidden=32, heads=2, mlp=48, full_blocks=(1,))
    return ThinkerSizes(decoder, vision, AudioSizes(layers=2, hidden=32, heads=2, mlp=64))


def tiny_thinker(
    layers: int = 4,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 16,
    *,
    tied: bool = False,
    **options: Any,
) -> Thinker:
    """A thinker of some hundred thousand parameters, made in well under a second, for tests. `options` are those of `random_thinker`."""
    sizes = tiny_sizes(layers, heads, kv_heads, head_dim, tied=tied)
    return random_thinker(sizes, name="random:tiny", frame_bounds=FrameBounds(56 * 56, 112 * 112), **options)


class _Filler:
    """Replaces parameters on the meta device by random values."""

    def __init__(self, device: torch.device, dtype: torch.dtype, seed: int) -> None:
        self.device, self.dtype = device, dtype
        self.generator = torch.Generator().manual_seed(seed)
        self.tile: Tensor | None = None

    def fill(self, root: nn.Module) -> None:
        for module in root.modules():
            for name, parameter in list(module._parameters.items()):
                if parameter is not None and parameter.is_meta:
                    value = self._value(parameter.shape, module, name)
                    module._parameters[name] = nn.Parameter(value, requires_grad=False)

    def _value(self, shape: torch.Size, module: nn.Module, name: str) -> Tensor:
        noise = self._noise(shape)
        if len(shape) > 1:
            return noise if isinstance(module, nn.Embedding) else noise.mul_((shape.numel() / shape[0]) ** -0.5)
        return noise.mul_(0.1) if name == "bias" else noise.mul_(0.1).add_(1.0)

    def _noise(self, shape: torch.Size) -> Tensor:
        """Standard normal values; large tensors repeat one block from a random place on, at the speed of a copy."""
        count = shape.numel()
        if count <= _TILE:
            return torch.randn(shape, generator=self.generator).to(self.device, self.dtype)
        if self.tile is None:
            self.tile = torch.randn(_TILE, generator=self.generator).to(self.device, self.dtype)
        start = int(torch.randint(_TILE, (), generator=self.generator))
        tile = self.tile.roll(start)
        flat = torch.empty(count, device=self.device, dtype=self.dtype)
        whole = count // _TILE * _TILE
        flat[:whole].view(-1, _TILE).copy_(tile.expand(whole // _TILE, _TILE))
        flat[whole:] = tile[: count - whole]
        return flat.view(shape)
