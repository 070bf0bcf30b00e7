"""Sound → the log-mel spectrogram the audio encoder reads.

Whisper's features as Qwen2.5-Omni's processor asks for them, without its cut at 300 seconds. transformers' `WhisperFeatureExtractor`
gives the same numbers, but pads every clip to 300 seconds and transforms all of it at once; here work follows the clip's length and
memory beyond the result is bounded.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from omnidrop_cli.outputs import SAMPLE_RATE_HZ
from omnidrop_cli.prompt.counts import HOP, PADDED_SAMPLES, count_mel_frames

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

N_FFT = 400
BLOCK_FRAMES = 3_000
"""Frames transformed at once: thirty seconds, about 15 MB of working memory."""


def log_mel(waveform: NDArray[np.float32], n_mels: int = 128) -> NDArray[np.float32]:
    """Waveform (N,) at 16 kHz → log-mel features (n_mels, M) float32, M = `count_mel_frames(N)`.

    Values are clamped to eight decades below the clip's loudest, as Whisper does, so they depend on the whole clip.
    """
    frames = count_mel_frames(len(waveform))
    features = np.empty((n_mels, frames), dtype=np.float32)
    window, filters = torch.hann_window(N_FFT), _filters(n_mels)
    for start in range(0, frames, BLOCK_FRAMES):
        stop = min(start + BLOCK_FRAMES, frames)
        samples = _samples(waveform, start * HOP - N_FFT // 2, (stop - 1) * HOP + N_FFT // 2)
        spectrum = torch.stft(torch.from_numpy(samples), N_FFT, HOP, window=window, center=False, return_complex=True)
        power = spectrum.abs().square_()
        features[:, start:stop] = (filters @ power).clamp_(min=1e-10).log10_().numpy()
    if frames:
        np.maximum(features, features.max() - 8.0, out=features)
        features += 4.0
        features /= 4.0
    return features


def _samples(waveform: NDArray[np.float32], start: int, stop: int) -> NDArray[np.float32]:
    """Samples [start, stop) of the sound with its silence and mirrored ends."""
    n = len(waveform)
    end = max(n, PADDED_SAMPLES)
    out = np.zeros(stop - start, dtype=np.float32)
    low, high = max(start, 0), min(stop, n)
    if low < high:
        out[low - start : high - start] = waveform[low:high]
    for outside in (np.arange(start, 0), np.arange(max(end, start), stop)):
        mirror = np.where(outside < 0, -outside, 2 * (end - 1) - outside)
        heard = mirror < n
        out[outside[heard] - start] = waveform[mirror[heard]]
    return out


@lru_cache(maxsize=2)
def _filters(n_mels: int) -> Tensor:
    """(n_mels, N_FFT // 2 + 1), Slaney's scale and norm."""
    from transformers.audio_utils import mel_filter_bank

    bank = mel_filter_bank(
        num_frequency_bins=1 + N_FFT // 2,
        num_mel_filters=n_mels,
        min_frequency=0.0,
        max_frequency=SAMPLE_RATE_HZ / 2,
        sampling_rate=SAMPLE_RATE_HZ,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(bank.T.astype(np.float32))
