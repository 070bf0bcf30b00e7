"""Sizes of a thinker as plain numbers, and the exact parameter counts that follow from them.

A thinker has three parts: decoder, vision encoder, audio encoder. Imports neither torch nor transformers, so memory can be estimated
without a checkpoint.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_LAYERS = 1_000
MAX_SIZE = 10_000_000
"""Largest depth and any other size accepted from a configuration; Qwen2.5-Omni-7B has 32 layers and 152,064 words."""


@dataclass(frozen=True, slots=True)
class DecoderSizes:
    """Sizes of the decoder. `tied` means that the output matrix is the embedding table."""

    num_layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocab: int
    tied: bool = False

    @property
    def layer_linear_parameters(self) -> int:
        """Weights of one layer's seven projections: what 4-bit and 8-bit quantisation covers."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return attention + 3 * self.hidden * self.mlp

    @property
    def layer_parameters(self) -> int:
        """All parameters of one layer: projections, the biases of query, key and value, two norms."""
        return self.layer_linear_parameters + self.head_dim * (self.heads + 2 * self.kv_heads) + 2 * self.hidden

    @property
    def table_parameters(self) -> int:
        """The embedding table and, unless tied, the output matrix."""
        return self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """Exact parameter count of the decoder with its embedding table, last norm and output matrix."""
        return self.num_layers * self.layer_parameters + self.hidden + self.table_parameters

    def kv_bytes(self, tokens: int, bytes_per_value: int = 2) -> int:
        """Bytes of one layer's keys and values over `tokens` positions."""
        return 2 * tokens * self.kv_heads * self.head_dim * bytes_per_value


@dataclass(frozen=True, slots=True)
class VisionSizes:
    """Sizes of the vision encoder. `window` is in pixels; blocks listed in `full_blocks` attend within a whole temporal grid."""

    layers: int = 32
    hidden: int = 1280
    heads: int = 16
    mlp: int = 3420
    patch: int = 14
    merge: int = 2
    temporal_patch: int = 2
    window: int = 112
    full_blocks: tuple[int, ...] = (7, 15, 23, 31)

    def parameters(self, out: int) -> int:
        """Exact parameter count; `out` is the decoder's hidden size."""
        d, m, merged = self.hidden, self.mlp, self.hidden * self.merge**2
        block = 2 * d + 4 * (d * d + d) + 3 * d * m + 2 * m + d
        merger = d + merged * merged + merged + merged * out + out
        return 3 * self.temporal_patch * self.patch**2 * d + self.layers * block + merger


@dataclass(frozen=True, slots=True)
class AudioSizes:
    """Sizes of the audio encoder. `window` counts mel frames: 200 are two seconds."""

    layers: int = 32
    hidden: int = 1280
    heads: int = 20
    mlp: int = 5120
    mels: int = 128
    window: int = 200

    def parameters(self, out: int) -> int:
        """Exact parameter count; `out` is the decoder's hidden size."""
        d, m = self.hidden, self.mlp
        convolutions = 3 * d * (self.mels + d) + 2 * d
        layer = 4 * d * d + 3 * d + 4 * d + 2 * d * m + m + d
        return convolutions + self.layers * layer + 2 * d + d * out + out + 2 * out


@dataclass(frozen=True, slots=True)
class ThinkerSizes:
    """All three parts of a thinker."""

    decoder: DecoderSizes
    vision: VisionSizes = VisionSizes()
    audio: AudioSizes = AudioSizes()

    @classmethod
    def from_dict(cls, thinker: Mapping[str, Any]) -> ThinkerSizes:
        """Read the sizes in a thinker's configuration as stored.

        A key that a section leaves out has Qwen2.5-Omni-7B's value, as in transformers; a whole section may not be left out.

        Raises:
            ValueError: A section is missing or no object, or a size is no positive whole number.
        """
        text, vision, audio = (_Section.of(thinker, name) for name in ("text_config", "vision_config", "audio_config"))
        hidden, heads = text.size("hidden_size", 3584), text.size("num_attention_heads", 28)
        return cls(
            DecoderSizes(
                num_layers=text.size("num_hidden_layers", 28, MAX_LAYERS),
                hidden=hidden,
                heads=heads,
                kv_heads=heads if text.is_null("num_key_value_heads") else text.size("num_key_value_heads", 4),
                head_dim=hidden // heads if text.values.get("head_dim") is None else text.size("head_dim", 128),
                mlp=text.size("intermediate_size", 18944),
                vocab=text.size("vocab_size", 152064),
                tied=_flag(thinker.get("tie_word_embeddings", False)),
            ),
            VisionSizes(
                layers=vision.size("depth", 32, MAX_LAYERS),
                hidden=vision.size("hidden_size", 3584),
                heads=vision.size("num_heads", 16),
                mlp=vision.size("intermediate_size", 3420),
                patch=vision.size("patch_size", 14),
                merge=vision.size("spatial_merge_size", 2),
                temporal_patch=vision.size("temporal_patch_size", 2),
                window=vision.size("window_size", 112),
                full_blocks=vision.indices("fullatt_block_indexes", (7, 15, 23, 31)),
            ),
            AudioSizes(
                layers=audio.size("encoder_layers", 32, MAX_LAYERS),
                hidden=audio.size("d_model", 1280),
                heads=audio.size("encoder_attention_heads", 20),
                mlp=audio.size("encoder_ffn_dim", 5120),
                mels=audio.size("num_mel_bins", 128),
                window=2 * audio.size("n_window", 100),
            ),
        )

    @property
    def encoder_parameters(self) -> int:
        return self.vision.parameters(self.decoder.hidden) + self.audio.parameters(self.decoder.hidden)

    @property
    def parameters(self) -> int:
        return self.decoder.parameters + self.encoder_parameters


QWEN_7B = ThinkerSizes(DecoderSizes(num_layers=28, hidden=3584, heads=28, kv_heads=4, head_dim=128, mlp=18944, vocab=152064))
"""Qwen/Qwen2.5-Omni-7B: the hub's `thinker_config`."""

QWEN_3B = ThinkerSizes(DecoderSizes(num_layers=36, hidden=2048, heads=16, kv_heads=2, head_dim=128, mlp=11008, vocab=151936))
"""Qwen/Qwen2.5-Omni-3B: the hub's `thinker_config`."""


@dataclass(frozen=True, slots=True)
class _Section:
    """One section of a configuration, not trusted."""

    name: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, thinker: Mapping[str, Any], name: str) -> _Section:
        values = thinker.get(name)
        if not isinstance(values, Mapping):
            raise ValueError(f"{name} is {'null' if values is None else reprlib.repr(values)}, not an object")
        return cls(name, values)

    def size(self, key: str, default: int, largest: int = MAX_SIZE) -> int:
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= largest:
            raise ValueError(f"{self.name}.{key} is {reprlib.repr(value)}, not a whole number from 1 to {largest}")
        return value

    def is_null(self, key: str) -> bool:
        return key in self.values and self.values[key] is None

    def indices(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        found = self.values.get(key, default)
        if not isinstance(found, list | tuple) or not all(type(index) is int and 0 <= index < MAX_LAYERS for index in found):
            raise ValueError(f"{self.name}.{key} is {reprlib.repr(found)}, not a list of layer numbers")
        return tuple(found)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"tie_word_embeddings is {reprlib.repr(value)}, not true or false")
    return value
