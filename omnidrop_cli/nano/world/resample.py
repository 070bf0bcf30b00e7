"""Band-limited resampling of a whole short sound to another length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def to_length(wave: NDArray[np.float32], samples: int) -> NDArray[np.float32]:
    """The same sound in `samples` samples (its pitch moves along), by cutting or padding its spectrum."""
    if samples == len(wave) or not len(wave):
        return wave[:samples]
    # Padding keeps the end from leaking into the start: the Fourier series is periodic.
    pad = max(16, len(wave) // 8)
    padded = np.concatenate([wave, np.zeros(pad, np.float32)])
    total = round(len(padded) * samples / len(wave))
    spectrum = np.fft.rfft(padded)
    resized = np.fft.irfft(np.resize(np.pad(spectrum, (0, max(0, total // 2 + 1 - len(spectrum)))), total // 2 + 1), total)
    return (resized[:samples] * (total / len(padded))).astype(np.float32)
