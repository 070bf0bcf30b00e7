"""How much memory a model and a prompt will take, before either exists.

Input: sizes (`sizes.py`) and tokens per layer. Output: megabytes by kind. Weights and caches are exact; activations are counted from the
layers' code at the widest moment of each stage. docs/user/models.md compares it with the peaks on an H100. Does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omnidrop_cli.model.sizes import DecoderSizes, ThinkerSizes

MB = 1e6

QUANTIZED_BYTES = {"nf4": 0.5 + 1 / 64 + 4 / (64 * 256), "int8": 1.0}
"""Bytes of one quantised weight. NF4: half a byte, one byte of scale per 64, one float32 per 256 scales (QLoRA's double quantisation)."""

RUNTIME_MB = 500.0
"""CUDA context, library workspaces and the allocator's rounding, as seen on current drivers."""

PATCHES_PER_PIECE = 16_384
WINDOWS_PER_PIECE = 150
ROWS_PER_PIECE = 4_096
PROJECTED_PER_PIECE = 4 * ROWS_PER_PIECE
"""How much the encoders, an MLP and the projections of the decoder take in at once (`engine/oom.py`, `model/decoder_layer.py`)."""


@dataclass(frozen=True, slots=True)
class MemoryGuess:
    """Megabytes (1e6 bytes) by what they hold. `encoders_mb`, `selection_mb` and `prefill_mb` are activations and never live together."""

    decoder_mb: float
    tables_mb: float
    encoder_weights_mb: float
    kv_mb: float
    embeddings_mb: float
    encoders_mb: float
    selection_mb: float
    prefill_mb: float

    @property
    def weights_mb(self) -> float:
        return self.decoder_mb + self.tables_mb + self.encoder_weights_mb

    @property
    def peak_mb(self) -> float:
        """The widest moment on a GPU: encoding the clip, selecting tokens before the decoder, or the first layers of the prefill."""
        return RUNTIME_MB + self.weights_mb + self.embeddings_mb + max(self.encoders_mb, self.selection_mb, self.kv_mb + self.prefill_mb)

    @property
    def waiting_peak_mb(self) -> float:
        """The same where the encoders wait in main memory while the decoder runs (`engine/oom.py`)."""
        encoding = self.encoder_weights_mb + self.encoders_mb
        widest = max(encoding, self.selection_mb, self.kv_mb + self.prefill_mb)
        return RUNTIME_MB + self.decoder_mb + self.tables_mb + self.embeddings_mb + widest


def guess(
    sizes: ThinkerSizes,
    quant: str,
    entering: Sequence[int],
    *,
    video_patches: int = PATCHES_PER_PIECE,
    audio_windows: int = WINDOWS_PER_PIECE,
    value_bytes: int = 2,
    prompt_tokens: int = 0,
    quant_head: str = "none",
) -> MemoryGuess:
    """Memory of a prompt of which layer l sees `entering[l]` tokens (all equal without pruning; `Trace.kv_lengths` with it).

    `prompt_tokens` is the unpruned prompt's length, where layer 0 sees less of it: the encoders' output and the embeddings are as long.
    `video_patches` (14-pixel patches of a frame pair) and `audio_windows` (two seconds each) are those of the clip, 0 without;
    `value_bytes` is the size of an unquantised value: 2 in bfloat16. Raises `ValueError` for an unknown `quant` or another depth.
    """
    decoder, vision, audio = sizes.decoder, sizes.vision, sizes.audio
    if len(entering) != decoder.num_layers:
        raise ValueError(f"{len(entering)} lengths for {decoder.num_layers} layers")
    widest = max(entering)
    embeddings_mb = max(widest, prompt_tokens) * decoder.hidden * value_bytes / MB
    return MemoryGuess(
        decoder_mb=decoder_bytes(sizes, quant, value_bytes) / MB,
        tables_mb=_table_bytes(decoder, quant_head, value_bytes) / MB,
        encoder_weights_mb=sizes.encoder_parameters * value_bytes / MB,
        kv_mb=sum(decoder.kv_bytes(tokens, value_bytes) for tokens in entering) / MB,
        embeddings_mb=embeddings_mb,
        encoders_mb=max(
            _vision_bytes(min(video_patches, PATCHES_PER_PIECE), vision.hidden, vision.mlp, value_bytes),
            _audio_bytes(min(audio_windows, WINDOWS_PER_PIECE) * audio.window // 2, audio.hidden, audio.mlp, value_bytes),
        )
        / MB,
        selection_mb=2 * embeddings_mb if widest < prompt_tokens else 0.0,  # the prompt's rows, and a copy of those of the media
        prefill_mb=_prefill_bytes(sizes, quant, widest, value_bytes) / MB,
    )


def head_change_mb(decoder: DecoderSizes, value_bytes: int = 2) -> dict[str, float]:
    """Megabytes that a quantised output matrix adds to every peak, by its quantisation: below 0 unless it was the embedding table too."""
    plain = _table_bytes(decoder, "none", value_bytes)
    return {quant: (_table_bytes(decoder, quant, value_bytes) - plain) / MB for quant in QUANTIZED_BYTES}


def spoken_head_change(change_mb: Mapping[str, float]) -> str:
    """The same in words: "--quant-head nf4: 809 MB less; int8: 545 MB less"."""
    return f"--quant-head {'; '.join(f'{quant}: {abs(mb):,.0f} MB {_less(mb)}' for quant, mb in change_mb.items())}"


def _less(change: float) -> str:
    return "less" if change < 0 else "more"


def _table_bytes(decoder: DecoderSizes, quant_head: str, value_bytes: int) -> float:
    """The embedding table and the output matrix. A quantised output matrix is one of its own, also where both were one."""
    if quant_head == "none":
        return decoder.table_parameters * value_bytes
    scales = 4 * decoder.vocab if quant_head == "int8" else 0
    return decoder.vocab * decoder.hidden * (value_bytes + QUANTIZED_BYTES[quant_head]) + scales


def decoder_bytes(sizes: ThinkerSizes, quant: str, value_bytes: int = 2) -> float:
    """Bytes of the decoder layers and the last norm, without the tables. Raises `ValueError` for an unknown `quant`."""
    decoder = sizes.decoder
    linear = decoder.layer_linear_parameters
    rest = decoder.layer_parameters - linear
    if quant == "none":
        layer: float = linear * value_bytes
    elif quant in QUANTIZED_BYTES:
        layer = linear * QUANTIZED_BYTES[quant]
    else:
        raise ValueError(f"unknown quantisation {quant!r}")
    if quant == "int8":  # one float32 scale per output row
        layer += 4 * (decoder.head_dim * (decoder.heads + 2 * decoder.kv_heads) + 2 * decoder.hidden + 2 * decoder.mlp)
    return decoder.num_layers * (layer + rest * value_bytes) + decoder.hidden * value_bytes


def _prefill_bytes(sizes: ThinkerSizes, quant: str, rows: int, value_bytes: int) -> float:
    """A layer at its widest, and one weight unpacked if quantised.

    That is the end of its attention (input, queries, mixed values and output of all rows), its projections (input and queries; the normed
    rows and the products of the rotation for one piece), or its MLP (input and output; normed rows, both gate branches and their product
    for one piece).
    """
    decoder = sizes.decoder
    unpacked = 0 if quant == "none" else decoder.hidden * decoder.mlp * value_bytes
    attention = rows * 4 * decoder.hidden
    rotated = decoder.hidden + 4 * decoder.head_dim * (decoder.heads + decoder.kv_heads)
    projections = rows * 2 * decoder.hidden + min(rows, PROJECTED_PER_PIECE) * rotated
    mlp = rows * 2 * decoder.hidden + min(rows, ROWS_PER_PIECE) * (decoder.hidden + 3 * decoder.mlp)
    return max(attention, projections, mlp) * value_bytes + unpacked


def _vision_bytes(patches: int, hidden: int, mlp: int, value_bytes: int) -> float:
    """A block at its widest: its MLP, or its rotary embedding, which transformers does in float32 (query, key, products, results)."""
    inputs = 3 * 2 * 14 * 14
    mlp_bytes = patches * (2 * hidden + 3 * mlp) * value_bytes
    rotary_bytes = patches * hidden * (4 * value_bytes + 6 * 4)
    return patches * inputs * value_bytes + max(mlp_bytes, rotary_bytes)


def _audio_bytes(frames: int, hidden: int, mlp: int, value_bytes: int) -> float:
    """A layer's MLP, or the convolutions over twice as many mel frames (output, its GELU, the padded mask)."""
    return max(frames * (2 * hidden + 2 * mlp) * value_bytes, 2 * frames * hidden * 3 * value_bytes)
