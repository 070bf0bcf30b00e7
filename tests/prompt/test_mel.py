"""Log-mel features against transformers' `WhisperFeatureExtractor` with the settings of Qwen2.5-Omni's preprocessor config."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import WhisperFeatureExtractor

from omnidrop_cli.prompt import counts, mel
from omnidrop_cli.prompt.counts import count_mel_frames
from omnidrop_cli.prompt.mel import log_mel


def sound(samples: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    wave = 0.3 * np.sin(np.arange(samples) * (0.05 + 0.1 * rng.random())) + 0.02 * rng.standard_normal(samples)
    wave[samples // 3 : samples // 2] = 0.0
    return wave.astype(np.float32)


def reference(waveform: NDArray[np.float32], chunk_length: int = 300) -> NDArray[np.float32]:
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=chunk_length, n_fft=400, hop_length=160)
    out = extractor(waveform, sampling_rate=16_000, truncation=False, padding="max_length", return_attention_mask=True, return_tensors="np")
    valid: NDArray[np.float32] = out["input_features"][0][:, out["attention_mask"][0].astype(bool)]
    return valid


@given(samples=st.integers(1, 100_000), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_equals_the_reference_round_its_padding(samples: int, seed: int) -> None:
    """With a padding of three seconds, so that both sides of it are drawn; the arithmetic is the same at 300."""
    waveform = sound(samples, seed)
    whole = reference(waveform, chunk_length=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mel, "PADDED_SAMPLES", 48_000)
        patch.setattr(counts, "PADDED_SAMPLES", 48_000)
        patch.setattr(mel, "BLOCK_FRAMES", 170)
        ours = log_mel(waveform)
    assert ours.shape == whole.shape
    np.testing.assert_allclose(ours, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("samples", [480, 64_001, 4_799_900, 4_800_000, 4_800_001, 4_960_077])
def test_equals_the_reference_and_nothing_is_cut(samples: int) -> None:
    waveform = sound(samples)
    ours, whole = log_mel(waveform), reference(waveform)
    assert ours.shape == whole.shape == (128, count_mel_frames(samples))
    np.testing.assert_allclose(ours, whole, rtol=0, atol=1e-5)


def test_blocks_do_not_show() -> None:
    waveform = sound(200_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mel, "BLOCK_FRAMES", 77)
        in_blocks = log_mel(waveform)
    np.testing.assert_allclose(in_blocks, log_mel(waveform), rtol=0, atol=1e-6)


def test_loudest_moment_sets_the_floor_of_the_whole_clip() -> None:
    quiet = sound(64_000) * 1e-3
    loud = np.concatenate([quiet, sound(16_000)])
    assert log_mel(loud)[:, :300].min() > log_mel(quiet)[:, :300].min()


def test_silence_and_nothing() -> None:
    features = log_mel(np.zeros(16_000, np.float32))
    assert features.shape == (128, 100)
    np.testing.assert_allclose(features, (-10.0 + 4.0) / 4.0)
    assert log_mel(np.zeros(0, np.float32)).shape == (128, 0)


def test_read_only_sound_is_taken() -> None:
    waveform = sound(16_000)
    waveform.flags.writeable = False
    assert log_mel(waveform).shape == (128, 100)
