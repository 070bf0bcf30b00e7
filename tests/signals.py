"""Pictures that carry their own number, speech, and bursts of a tone at known times: what the clips of tests show.

The top band of a picture holds `INDEX_BITS` black or white blocks that survive compression and scaling, so a test can read which frame it
was given (`frame_index`). Speech comes from espeak-ng or flite.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

INDEX_BITS = 12
TONE_HZ = 880.0

Frames = Iterable[NDArray[np.uint8]]
Sound = NDArray[np.float32]


# ---------------------------------------------------------------- pictures


def picture(index: int, height: int, width: int) -> NDArray[np.uint8]:
    """One RGB frame (H, W, 3): a colour gradient, a square that moves with `index`, and the index itself as blocks on top."""
    y, x = np.mgrid[0:height, 0:width]
    frame = np.stack([x * 200 // width, y * 200 // height, np.full_like(x, (index * 3) % 200)], axis=-1).astype(np.uint8)
    side = max(2, min(height, width) // 5)
    left = (index * 4) % max(1, width - side)
    frame[height // 2 : height // 2 + side, left : left + side] = (240, 220, 40)
    band = max(1, height // 6)
    for bit in range(INDEX_BITS):
        frame[:band, bit * width // INDEX_BITS : (bit + 1) * width // INDEX_BITS] = 255 if index >> bit & 1 else 0
    return frame


def frame_index(frame: NDArray[np.uint8]) -> int:
    """The number painted into a decoded frame; takes (3, H, W), at any size of at least a few pixels per block."""
    _, height, width = frame.shape
    row = frame[:, max(0, height // 12), :].mean(axis=0)
    centres = [int((bit + 0.5) * width / INDEX_BITS) for bit in range(INDEX_BITS)]
    return sum(1 << bit for bit, x in enumerate(centres) if row[x] > 127)


def pictures(count: int, height: int = 180, width: int = 320) -> Frames:
    return (picture(i, height, width) for i in range(count))


# ---------------------------------------------------------------- sound


def speech(text: str, rate_hz: int = 16_000, voice: str = "en-us") -> Sound:
    """Spoken `text`, mono. Machines without espeak-ng and flite get vowel-like tones of a similar length instead."""
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "speech.wav"
        if shutil.which("espeak-ng"):
            subprocess.run(["espeak-ng", "-v", voice, "-w", str(wav), "--", text], check=True, capture_output=True)
        elif shutil.which("flite"):
            subprocess.run(["flite", "-t", text, "-o", str(wav)], check=True, capture_output=True)
        else:
            return _vowels(len(text.split()), rate_hz)
        samples, source_hz = soundfile.read(wav, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    at = np.arange(int(len(mono) * rate_hz / source_hz)) * source_hz / rate_hz
    return np.interp(at, np.arange(len(mono)), mono).astype(np.float32)


def _vowels(words: int, rate_hz: int) -> Sound:
    t = np.arange(int(0.3 * rate_hz)) / rate_hz
    formants = [np.stack([np.sin(2 * np.pi * f * t) for f in (120, 650 + 90 * word, 1100)]) for word in range(words)]
    return np.concatenate([np.hanning(len(t)) * wave.mean(axis=0) for wave in formants]).astype(np.float32)


def bursts(duration_s: float, times_s: Sequence[float], rate_hz: int = 16_000, burst_s: float = 0.1) -> Sound:
    """Silence with a tone of `burst_s` seconds starting at each of `times_s`."""
    sound = np.zeros(round(duration_s * rate_hz), np.float32)
    tone = 0.5 * np.sin(2 * np.pi * TONE_HZ * np.arange(round(burst_s * rate_hz)) / rate_hz)
    for start in times_s:
        at = round(start * rate_hz)
        piece = sound[at : at + len(tone)]
        piece += tone[: len(piece)].astype(np.float32)
    return sound


def onsets(sound: Sound, rate_hz: int = 16_000, threshold: float = 0.1) -> list[float]:
    """Seconds at which bursts begin: the first loud sample after at least 50 ms of quiet."""
    loud = np.flatnonzero(np.abs(sound) > threshold)
    if not len(loud):
        return []
    first = np.concatenate([[True], np.diff(loud) > 0.05 * rate_hz])
    return [float(i) / rate_hz for i in loud[first]]


def fit(sound: Sound, duration_s: float, rate_hz: int = 16_000) -> Sound:
    """`sound` cut or padded with silence to `duration_s`."""
    wanted = round(duration_s * rate_hz)
    return np.pad(sound[:wanted], (0, max(0, wanted - len(sound))))
