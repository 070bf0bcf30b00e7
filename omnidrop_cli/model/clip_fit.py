"""Which clips fit a GPU: the memory that a clip of some length takes, and the longest clip for some memory.

In: a model's sizes, its quantisation, how clips are sampled, the share of tokens kept, a length. A clip has frames of the largest size that
the options allow, and audio throughout. Does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from omnidrop_cli.config import TOKEN_PIXELS, MediaConfig
from omnidrop_cli.model.memory_estimate import PATCHES_PER_PIECE, WINDOWS_PER_PIECE, MemoryGuess, guess
from omnidrop_cli.model.sizes import ThinkerSizes
from omnidrop_cli.outputs import SAMPLE_RATE_HZ
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
        options: how clips are sampled, with bounds of the pixels (`FrameBounds.fill`).
    """

    sizes: ThinkerSizes
    quant: str
    options: MediaConfig

    def of_clip(self, seconds: float, keep: float) -> MemoryGuess:
        """Memory of a clip under a retention ratio. Raises `ValueError` for an unknown quantisation."""
        options, video, audio = self.options, 0, 0
        if options.use_video:
            frames = max(options.min_frames, min(options.max_frames, int(seconds * options.fps)))
            video = -(-frames // FRAMES_PER_GRID) * ((options.max_pixels or 0) // TOKEN_PIXELS)
        if options.use_audio:
            audio = count_audio_tokens(count_mel_frames(int(seconds * SAMPLE_RATE_HZ)))
        return self.of_tokens(video + audio, keep)

    def of_tokens(
        self,
        media: int,
        keep: float,
        *,
        text: int = TEXT_TOKENS,
        video_patches: int = PATCHES_PER_PIECE,
        audio_windows: int = WINDOWS_PER_PIECE,
    ) -> MemoryGuess:
        """Memory of a prompt of `media` audio and video tokens, of which `keep` enter each layer on average, and `text` others.

        `video_patches` and `audio_windows` pass the encoders, as in `memory_estimate.guess`.
        """
        entering = [text + round(keep * media)] * self.sizes.decoder.num_layers
        total = text + media
        return guess(self.sizes, self.quant, entering, video_patches=video_patches, audio_windows=audio_windows, prompt_tokens=total)

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


def spoken_length(longest_s: int) -> str:
    """A length in the precision of the estimate: "no clip", "45 s", "12 min", "over 6 h"."""
    if longest_s >= LONGEST_S:
        return f"over {LONGEST_S // 3600} h"
    return f"{longest_s // 60} min" if longest_s >= 120 else f"{longest_s} s" if longest_s else "no clip"
