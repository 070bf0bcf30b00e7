"""The shipped weights: complete, small, loadable by transformers alone, and able to answer."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from omnidrop_cli.media.source import BUNDLED
from omnidrop_cli.nano.train.model_shape import MAX_PIXELS, MIN_PIXELS
from omnidrop_cli.nano.train.train_tokenizer import build
from omnidrop_cli.nano.world import demo_clips

ASSETS = Path(demo_clips.__file__).parents[1] / "assets"


def test_the_package_is_small_and_complete() -> None:
    names = {path.name for path in ASSETS.iterdir()}
    configs = {"config.json", "generation_config.json", "preprocessor_config.json", "tokenizer_config.json"}
    assert names >= configs | {"model.safetensors", "tokenizer.json", "README.md", "benchmark.jsonl"}
    assert sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()) < 16_000_000
    assert all(path.stat().st_size < 300_000 for path in BUNDLED.iterdir())
    preprocessor = json.loads((ASSETS / "preprocessor_config.json").read_text())
    assert (preprocessor["min_pixels"], preprocessor["max_pixels"]) == (MIN_PIXELS, MAX_PIXELS)


def test_the_tokenizer_is_the_one_the_code_makes() -> None:
    """A world that grew a word needs new weights: ids would shift under the old ones."""
    from transformers import AutoTokenizer

    stored, made = AutoTokenizer.from_pretrained(str(ASSETS)), build()
    assert stored.get_vocab() == made.get_vocab()


def test_transformers_alone_loads_it() -> None:
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    model, said = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(str(ASSETS), output_loading_info=True)
    assert not said["missing_keys"]
    assert not said["unexpected_keys"]
    assert model.config.text_config.num_hidden_layers >= 12
    assert model.config.vision_start_token_id is not None
    assert model.generation_config.eos_token_id


@lru_cache(maxsize=1)
def _session() -> Any:
    from omnidrop_cli.config import ModelConfig
    from omnidrop_cli.engine.session import Session

    return Session.load(ModelConfig("nano", device="cpu"))


def _answer(question: demo_clips.DemoQuestion, method: str, keep: float | None = None) -> str:
    from omnidrop_cli.config import GenerationConfig, PruningConfig, Request

    job = Request(
        question.clip,
        question.question,
        method=PruningConfig(name=method, keep=keep),
        generation=GenerationConfig(max_new_tokens=24),
    )
    text: str = _session().run(job).answer.text.strip()
    return text


SURE = (
    "What is said while the car is shown?", "What is shown after the car?", "How many beeps are there?", "Which colour is the circle?",
    "Is the dog on the left or on the right?", "Is the rocket shown?", "What is shown at the start?", "Which number is shown?",
    "What is said while the guitar is shown?", "In which half is the guitar shown?", "What is said?",
)  # fmt: skip
"""Demo questions that the shipped weights answer; the rest of `demo_clips.QUESTIONS` is what it should learn."""


@pytest.mark.parametrize("asked", SURE)
def test_it_answers_the_demo(asked: str) -> None:
    question = next(q for q in demo_clips.QUESTIONS if q.question == asked)
    assert _answer(question, "none") == question.answer
