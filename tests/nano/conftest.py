"""A miniature nano model, and voices that need no speech program."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from omnidrop_cli.nano.train.model_shape import NanoShape, build_model
from omnidrop_cli.nano.train.train_tokenizer import build
from omnidrop_cli.nano.world.vocabulary import WORDS
from omnidrop_cli.nano.world.voices import VoiceBank, voices
from omnidrop_cli.prompt.spec import PromptSpec

SMALL = NanoShape(hidden=64, layers=4, heads=2, kv_heads=1, head_dim=48, mlp=96, encoder=48, encoder_layers=1)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return build()


@pytest.fixture(scope="session")
def frozen_model(tokenizer: Any) -> bytes:
    return pickle.dumps(build_model(SMALL, tokenizer))


@pytest.fixture
def model(frozen_model: bytes) -> Iterator[Any]:
    """A fresh miniature thinker in fp32; one thread, as in training."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield pickle.loads(frozen_model)
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def spec(tokenizer: Any) -> PromptSpec:
    return PromptSpec.from_config(build_model(SMALL, tokenizer).config, tokenizer)


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of voice 0 whose words are tones: what the mixer does with words does not depend on speech."""
    directory = tmp_path_factory.mktemp("voices")
    rng = np.random.default_rng(0)
    sounds = {}
    for number, word in enumerate(WORDS):
        time = np.arange(int(16_000 * rng.uniform(0.3, 0.6))) / 16_000
        sounds[word] = (3000 * np.sin(2 * np.pi * (200 + 40 * number) * time)).astype(np.int16)
    with (directory / f"{voices()[0].label}.npz").open("wb") as out:
        np.savez(out, **sounds)
    return directory


@pytest.fixture(scope="session")
def bank(tones: Path) -> VoiceBank:
    return VoiceBank(tones, [0])
