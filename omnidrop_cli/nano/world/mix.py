"""The audio of a timeline: cached words, beeps and background noise, mixed. The same timeline gives the same audio."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from omnidrop_cli.nano.world.resample import to_length
from omnidrop_cli.nano.world.scenario import Scenario
from omnidrop_cli.nano.world.voices import SPEECH_RMS
from omnidrop_cli.outputs import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from omnidrop_cli.nano.world.voices import VoiceBank

Wave = NDArray[np.float32]


def render(timeline: Scenario, bank: VoiceBank) -> Wave:
    """float32 (N,) at 16 kHz in [-1, 1]."""
    rng = np.random.default_rng([timeline.look, 1])
    count = round(timeline.duration_s * SAMPLE_RATE_HZ)
    mixed = np.zeros(count, np.float32)
    for spoken in timeline.words:
        begin, end = round(spoken.start_s * SAMPLE_RATE_HZ), round(spoken.end_s * SAMPLE_RATE_HZ)
        _add(mixed, begin, to_length(bank.word(spoken.voice, spoken.word), end - begin) * float(rng.uniform(0.6, 1.3)))
    if rng.random() < 0.4:
        mixed = _echoes(mixed, rng)
    if rng.random() < 0.5:
        mixed = _tilt(mixed, rng)
    for beep in timeline.beeps:
        begin, end = round(beep.start_s * SAMPLE_RATE_HZ), round(beep.end_s * SAMPLE_RATE_HZ)
        _add(mixed, begin, _beep(end - begin, beep.hz, rng))
    floor = 10 ** float(rng.uniform(-5, -3.5))
    mixed += floor * rng.standard_normal(count).astype(np.float32)
    if timeline.noise:
        mixed += timeline.noise * SPEECH_RMS * _noise(count, rng)
    mixed *= float(rng.uniform(0.4, 1.6))
    return (mixed / max(1.0, float(np.abs(mixed).max()))).astype(np.float32)


def _add(mixed: Wave, begin: int, sound: Wave) -> None:
    sound = sound[: max(0, len(mixed) - begin)]
    mixed[begin : begin + len(sound)] += sound


def _beep(count: int, hz: float, rng: np.random.Generator) -> Wave:
    time = np.arange(count) / SAMPLE_RATE_HZ
    tone = np.sin(2 * np.pi * hz * time) + float(rng.uniform(0, 0.4)) * np.sin(4 * np.pi * hz * time)
    fade = np.minimum(1.0, np.minimum(np.arange(count), np.arange(count)[::-1]) / 80)
    return (tone * fade * SPEECH_RMS * float(rng.uniform(0.8, 1.8))).astype(np.float32)


def _noise(count: int, rng: np.random.Generator) -> Wave:
    """Hiss, rumble or something between, sometimes with a mains hum; unit power."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    spectrum *= np.maximum(np.arange(len(spectrum)), count / 200) ** -float(rng.uniform(0.0, 0.8))
    noise = np.fft.irfft(spectrum, count)
    noise /= noise.std() + 1e-12
    if rng.random() < 0.25:
        noise = 0.7 * noise + np.sin(2 * np.pi * float(rng.uniform(48, 62)) * np.arange(count) / SAMPLE_RATE_HZ)
    return noise.astype(np.float32)


def _echoes(sound: Wave, rng: np.random.Generator) -> Wave:
    """A few early echoes, as of a small space."""
    out = sound.copy()
    for _ in range(4):
        delay = int(rng.integers(100, 1200))
        out[delay:] += float(rng.uniform(-0.25, 0.25)) * sound[:-delay]
    return out


def _tilt(sound: Wave, rng: np.random.Generator) -> Wave:
    """A darker or a brighter microphone: one tap of memory."""
    amount = float(rng.uniform(-0.5, 0.5))
    out = sound.copy()
    out[1:] -= amount * sound[:-1]
    return out / (1 + abs(amount) * 0.5)
