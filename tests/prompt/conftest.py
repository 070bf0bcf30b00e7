"""One tokenizer, one spec and one tiny thinker for the whole package."""

from __future__ import annotations

from typing import Any

import pytest

from omnidrop_cli.prompt.spec import PromptSpec
from tests.prompt.qwen import make_thinker, make_tokenizer, thinker_config


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return make_tokenizer()


@pytest.fixture(scope="session")
def spec(tokenizer: Any) -> PromptSpec:
    return PromptSpec.from_config(thinker_config(tokenizer), tokenizer)


@pytest.fixture(scope="session")
def thinker(tokenizer: Any) -> Any:
    return make_thinker(tokenizer)
