"""Answers as JSON of a given shape: in every step, only tokens that can still lead to a valid answer may be chosen.

llguidance compiles the schema and says which tokens may follow.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from omnidrop_cli.errors import ModelError, OmnidropError, summarize
from omnidrop_cli.json_schema import REQUIREMENT, grammar
from omnidrop_cli.outputs import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llguidance import LLTokenizer

    from omnidrop_cli.model.thinker import Thinker


class JsonConstraint:
    """Which tokens may follow in an answer that is JSON of one schema."""

    def __init__(self, thinker: Thinker, schema: str) -> None:
        """Compile a schema that `check_schema` passed for the model's tokens. Raises `ModelError` for an unknown kind of tokenizer."""
        from llguidance import LLMatcher

        self._size = thinker.sizes.vocab
        self._matcher = LLMatcher(_tokenizer(thinker.tokenizer, self._size, thinker.eos_ids[0]), grammar(schema), log_level=0)
        self._read: list[int] = []
        self._bits = torch.zeros(-(-self._size // 32), dtype=torch.int32)

    def mask(self, logits: Tensor, so_far: Sequence[int]) -> Tensor:
        """`logits` (vocab,) with minus infinity for every token that may not follow `so_far`, the answer's earlier tokens."""
        self._follow(so_far)
        self._matcher.unsafe_compute_mask_ptr(self._bits.data_ptr(), self._bits.numel() * self._bits.element_size())
        self._check()
        bits = self._bits.to(logits.device)[:, None] >> torch.arange(32, dtype=torch.int32, device=logits.device)
        return logits.masked_fill((bits & 1 == 0).flatten()[: len(logits)], -math.inf)

    def complete(self, so_far: Sequence[int]) -> bool:
        """Whether the answer is valid and only its end can follow."""
        self._follow(so_far)
        return bool(self._matcher.is_stopped())

    def _follow(self, so_far: Sequence[int]) -> None:
        """Bring the matcher to the state after `so_far`; tokens that were tried and not taken are undone."""
        shared = 0
        for ours, theirs in zip(self._read, so_far, strict=False):
            if ours != theirs:
                break
            shared += 1
        if shared < len(self._read):
            self._matcher.rollback(len(self._read) - shared)
        self._matcher.consume_tokens(list(so_far[shared:]))
        self._check()
        self._read = list(so_far)

    def _check(self) -> None:
        if self._matcher.is_error():
            problem = " ".join(self._matcher.get_error().split())[:200]
            raise OmnidropError(f"the answer cannot follow `schema`: {problem}", "simplify the schema")


def json_answer(text: str, token_ids: tuple[int, ...], finish_reason: str) -> Answer:
    """The answer that a constraint led to, with its value in `parsed`.

    Raises:
        OmnidropError: it was cut before its JSON was complete, or holds a number that Python cannot read.
    """
    if finish_reason != "eos":
        raise OmnidropError(
            f"the answer was cut at {len(token_ids)} tokens, before its JSON was complete",
            "raise `max_new_tokens`, or bound the schema (maxLength, maxItems, maximum)",
        )
    try:
        return Answer(text.strip(" "), token_ids, finish_reason, parsed=json.loads(text, parse_float=_finite))
    except (ValueError, RecursionError) as error:
        raise OmnidropError(f"the answer's JSON cannot be read: {error}", "bound the schema's numbers (minimum, maximum)") from error


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large a number")
    return value


@lru_cache(maxsize=1)
def _tokenizer(tokenizer: Any, size: int, end: int) -> LLTokenizer:
    """The model's tokenizer for llguidance. Made once: it takes a second.

    Args:
        size: tokens, with those that only fill the output layer.
        end: the token that ends an answer.

    Raises:
        ModelError: llguidance cannot read this kind of tokenizer.
    """
    from llguidance.hf import from_tokenizer

    try:
        return from_tokenizer(tokenizer, n_vocab=size, eos_token=end)
    except ValueError as error:
        raise ModelError(f"`schema` does not work with this model's tokenizer: {summarize(error)}", f"it needs {REQUIREMENT}") from error
