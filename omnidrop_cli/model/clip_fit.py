"""Which clips fit a GPU: the memory that a clip of some length takes, and the longest clip for some memory.

In: a model's sizes, its quantisation, the share of tokens kept, a length. A clip has frames of the model's largest size, sampled as
`MediaConfig` says, and audio throughout. Does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from omnidrop_cli.config import TOKEN_PIXELS, MediaConfig
from omnidrop_cli.model.memory_estimate import MemoryGuess, guess
from omnidrop_cli.model.sizes import ThinkerSizes
from omnidrop_cli.outputs import SAMPLE_RATE_HZ, FrameBounds
from omnidrop_cli.prompt.counts import FRAMES_PER_GRID, count_audio_tokens, count_mel_frames

USABLE = 0.9
"""Share of the free memory that a clip may take. The allocator holds more than what is live: on an H100, ten minutes that took 10.8 GB did
not fit in 12, and fitted with the encoders in main memory (docs/results/gpu.md)."""

TEXT_TOKENS = 64
"""Qwen's system prompt, the chat markers and a question of a line."""

LONGEST_S = 6 * 3600
"""Longer clips are not looked at."""

Fit = Literal["yes", "encoders wait", "no"]


def fit(needed: MemoryGuess, free_bytes: float) -> Fit:
    """Whether what is `needed` fits into `free_bytes`."""
    usable_mb = USABLE * free_bytes / 1e6
    if needed.peak_mb <= usable_mb:
        return "yes"
    return "encoders wait" if needed.waiting_peak_mb <= usable_mb else "no"


@dataclass(frozen=True, slots=True)
class ModelMemory:
    """A model whose memory is asked for.

    Attributes:
        quant: nf4, int8 or none.
        bounds: pixels of a frame.
    """

    sizes: ThinkerSizes
    quant: str
    bounds: FrameBounds

    def of_clip(self, seconds: float, keep: float) -> MemoryGuess:
        """Memory of a clip under a retention ratio. Raises `ValueError` for an unknown quantisation."""
        options = MediaConfig()
        frames = max(options.min_frames, min(options.max_frames, int(seconds * options.fps)))
        video = -(-frames // FRAMES_PER_GRID) * (self.bounds.max_pixels // TOKEN_PIXELS)
        return self.of_tokens(video + count_audio_tokens(count_mel_frames(int(seconds * SAMPLE_RATE_HZ))), keep)

    def of_tokens(self, media: int, keep: float) -> MemoryGuess:
        """Memory of a clip of `media` audio and video tokens, of which `keep` enter each layer on average."""
        entering = [TEXT_TOKENS + round(keep * media)] * self.sizes.decoder.num_layers
        return guess(self.sizes, self.quant, entering, prompt_tokens=TEXT_TOKENS + media)

    def longest_s(self, keep: float, free_bytes: float) -> int:
        """Seconds of the longest clip that fits, perhaps with the encoders waiting: 0 where none does, at most `LONGEST_S`."""
        least, most = 0, LONGEST_S
        while least < most:
            middle = (least + most + 1) // 2
            if fit(self.of_clip(middle, keep), free_bytes) == "no":
                most = middle - 1
            else:
                least = middle
        return least
