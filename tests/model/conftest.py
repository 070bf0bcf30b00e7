"""Tiny thinkers shared by the tests of this package. They are read-only: a test that changes a model makes its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.model.thinker import Thinker
from tests.model.checkpoints import write_omni, write_plain


@pytest.fixture(scope="session")
def thinker() -> Thinker:
    return tiny_thinker()


@pytest.fixture(scope="session")
def plain_checkpoint(thinker: Thinker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plain(thinker, tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="session")
def omni_checkpoint(thinker: Thinker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_omni(thinker, tmp_path_factory.mktemp("omni"))


@pytest.fixture(scope="session")
def prompt_ids(thinker: Thinker) -> torch.Tensor:
    return torch.tensor([thinker.tokenizer.encode("what is said while the dog is shown?")])
