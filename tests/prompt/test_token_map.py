"""The token map that is read from a prompt's ids alone equals the one that was made with the prompt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from omnidrop_cli.errors import UsageError
from omnidrop_cli.outputs import Prompt, TokenMap
from omnidrop_cli.prompt.build import build
from omnidrop_cli.prompt.spec import PromptSpec
from omnidrop_cli.prompt.token_map import token_map_of
from tests.prompt.qwen import thinker_config
from tests.prompt.test_build import make_clip

CLIPS = [(4, 32_000), (40, 160_000), (4, -1), (0, 32_000)]
"""(frames, samples): both tracks, more of both, video alone, audio alone."""


def configuration(tokenizer: Any) -> Any:
    config = thinker_config(tokenizer)
    config.user_token_id = tokenizer.convert_tokens_to_ids("user")
    return config


def from_ids(prompt: Prompt, tokenizer: Any, is_query: Any = None) -> TokenMap:
    config = configuration(tokenizer)
    seconds = prompt.media[0].seconds_per_grid or 1.0
    return token_map_of(prompt.input_ids, config, grid_thw=prompt.media[0].grid_thw, seconds_per_grid=seconds, is_query=is_query)


@pytest.mark.parametrize("media_first", [True, False])
@pytest.mark.parametrize("history", [[], [("Who is it?", "A man.")]], ids=["first question", "second"])
@pytest.mark.parametrize(("frames", "samples"), CLIPS)
def test_from_ids_alone(
    tokenizer: Any, spec: PromptSpec, frames: int, samples: int, history: list[tuple[str, str]], media_first: bool
) -> None:
    clip = make_clip(frames=frames, samples=samples)
    prompt = build([clip], "What is said?", tokenizer, spec, media_first=media_first, history=history)
    found = from_ids(prompt, tokenizer)
    for name in ("modality", "chunk", "grid", "row", "col", "is_query"):
        np.testing.assert_array_equal(getattr(found, name), getattr(prompt.token_map, name), err_msg=name)
    np.testing.assert_allclose(found.time_s, prompt.token_map.time_s)


def test_a_question_that_is_given_is_taken(tokenizer: Any, spec: PromptSpec) -> None:
    prompt = build([make_clip()], "What is said?", tokenizer, spec)
    given = np.zeros(len(prompt), bool)
    given[3:5] = True
    assert np.array_equal(from_ids(prompt, tokenizer, given).is_query, given)


def test_ids_that_end_within_a_turn(tokenizer: Any, spec: PromptSpec) -> None:
    """A prompt cut behind <|im_start|>: there is no role after the last mark."""
    prompt = build([make_clip(frames=0)], "What is said?", tokenizer, spec)
    last = int(np.flatnonzero(prompt.input_ids == prompt.input_ids[0])[-1])
    found = token_map_of(prompt.input_ids[: last + 1], configuration(tokenizer))
    assert tokenizer.decode(prompt.input_ids[: last + 1][found.is_query]) == "What is said?"


def test_ids_that_fit_nothing_are_said(tokenizer: Any, spec: PromptSpec) -> None:
    prompt = build([make_clip()], "What is said?", tokenizer, spec)
    with pytest.raises(UsageError, match="12 video tokens"):
        token_map_of(prompt.input_ids, configuration(tokenizer), grid_thw=(4, 4, 6))
    with pytest.raises(UsageError, match="no user turn"):
        token_map_of(prompt.input_ids[:8], configuration(tokenizer))
