"""Choosing tokens from logits, and turning tokens into text that will not change."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from omnidrop_cli.config import GenerationConfig
from omnidrop_cli.engine.constraint import JsonConstraint

if TYPE_CHECKING:
    from omnidrop_cli.model.thinker import Thinker

REPLACEMENT = "\ufffd"


class Sampler:
    """Chooses tokens from logits.

    Attributes:
        greedy: Whether the choice is the largest of the bare logits, which the device can find itself.
        constraint: What may be chosen, where a schema was given.
    """

    def __init__(self, thinker: Thinker, prompt_ids: Tensor, options: GenerationConfig) -> None:
        from transformers import (
            LogitsProcessorList,
            RepetitionPenaltyLogitsProcessor,
            TemperatureLogitsWarper,
            TopPLogitsWarper,
        )

        self._prompt_ids = prompt_ids
        self._processors = LogitsProcessorList()
        if options.repetition_penalty != 1.0:
            self._processors.append(RepetitionPenaltyLogitsProcessor(options.repetition_penalty))
        sampled = options.temperature > 0
        if sampled:
            self._processors.append(TemperatureLogitsWarper(options.temperature))
            if options.top_p < 1.0:
                self._processors.append(TopPLogitsWarper(options.top_p))
        self._generator = torch.Generator(device=thinker.device).manual_seed(options.seed) if sampled else None
        self.constraint = None if options.schema is None else JsonConstraint(thinker, options.schema)
        self.greedy = not self._processors and self.constraint is None

    def choose(self, logits: Tensor, so_far: list[int]) -> int:
        """The token that follows `so_far`, the answer's earlier ones, given `logits` (vocab,). Waits for the device."""
        if self.constraint is not None:
            logits = self.constraint.mask(logits, so_far)
        if self._processors:
            seen = torch.cat((self._prompt_ids, torch.tensor(so_far, dtype=self._prompt_ids.dtype, device=self._prompt_ids.device)))
            logits = self._processors(seen[None], logits[None])[0]
        if self._generator is None:
            return int(logits.argmax())
        return int(torch.multinomial(logits.softmax(-1), 1, generator=self._generator))

    def choose_along(self, logits: Tensor, so_far: list[int], draft: list[int]) -> list[int]:
        """The tokens that follow `so_far` as long as `draft` has them too, and one more, unless they complete the answer. Waits for the
        device.

        Args:
            logits: (1 + drafted, vocab), after `so_far` and after each token of `draft`.
        """
        likeliest: list[int] | None = logits.argmax(-1).tolist() if self.greedy else None
        tokens: list[int] = []
        for row, drafted in enumerate((*draft, None)):
            tokens.append(likeliest[row] if likeliest else self.choose(logits[row], so_far + tokens))
            if tokens[-1] != drafted or (self.constraint is not None and self.constraint.complete(so_far + tokens)):
                break
        return tokens


class TextStream:
    """Turns tokens into text pieces that will not change: no half character, nothing that may yet become a stop string."""

    def __init__(self, tokenizer: Any, stop: tuple[str, ...], on_text: Callable[[str], None]) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(s for s in stop if s)
        self._on_text = on_text
        self._tokens: list[int] = []
        self._text = ""
        self._sent = 0
        # tokens[context:read] are text already and are decoded again with the new ones, since a token's leading space depends on
        # the one before it; text older than that never changes, so a long answer is not decoded over and over.
        self._context = 0
        self._read = 0

    def push(self, token: int) -> bool:
        """Take one token; True where a stop string is now complete (the text ends before it)."""
        self._tokens.append(token)
        fresh = self._fresh()
        if not fresh or fresh.endswith(REPLACEMENT):
            return False
        self._settle(fresh)
        found = [at for stop in self._stop if (at := self._text.find(stop, max(0, self._sent - len(stop)))) >= 0]
        if found:  # one token may complete several stop strings: the text ends before the first
            self._text = self._text[: min(found)]
            self._tokens, self._context, self._read = [], 0, 0
            return True
        self._send(len(self._text) - self._held_back())
        return False

    def finish(self) -> str:
        """The whole text; what was held back is sent."""
        self._settle(self._fresh())
        self._send(len(self._text))
        return self._text

    def _fresh(self) -> str:
        decode = self._tokenizer.decode
        known = decode(self._tokens[self._context : self._read], skip_special_tokens=True)
        return str(decode(self._tokens[self._context :], skip_special_tokens=True))[len(known) :]

    def _settle(self, fresh: str) -> None:
        self._text += fresh
        self._context, self._read = self._read, len(self._tokens)

    def _held_back(self) -> int:
        """Length of the longest tail that could grow into a stop string."""
        return max(
            (length for stop in self._stop for length in range(1, len(stop)) if self._text.endswith(stop[:length])),
            default=0,
        )

    def _send(self, upto: int) -> None:
        if upto > self._sent:
            self._on_text(self._text[self._sent : upto])
            self._sent = upto
