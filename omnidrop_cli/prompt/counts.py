"""How many mel frames and tokens a clip becomes: arithmetic over its samples and frames, without torch."""

from __future__ import annotations

from omnidrop_cli.outputs import SAMPLE_RATE_HZ

HOP = 160
"""Samples per mel frame (Whisper feature extractor)."""

PADDED_SAMPLES = 300 * SAMPLE_RATE_HZ
"""The processor pads with silence up to here (`chunk_length` 300); longer audio ends in a mirror image instead, and rounds down."""

TOKEN_SIDE_PX, FRAMES_PER_GRID = 28, 2
"""A video token covers 28 x 28 pixels (patches of 14, merged two by two) of two frames."""


def count_mel_frames(samples: int) -> int:
    """Frames the processor counts as valid for this number of samples; 100 a second."""
    return -(-samples // HOP) if samples <= PADDED_SAMPLES else samples // HOP


def count_audio_tokens(mel_frames: int) -> int:
    """Tokens the audio encoder makes of `mel_frames`: a stride-2 convolution, then pooling by 2. Under three frames there are none."""
    return max(0, ((mel_frames - 1) // 2 + 1 - 2) // 2 + 1)


def count_video_tokens(frames: int, height: int, width: int) -> int:
    """Tokens of `frames` frames of `height` x `width` pixels; an incomplete last grid counts."""
    return -(-frames // FRAMES_PER_GRID) * (height // TOKEN_SIDE_PX) * (width // TOKEN_SIDE_PX)
