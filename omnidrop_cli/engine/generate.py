"""Generation: a prefilled prompt becomes an answer, token by token.

Tokens are decoded eagerly, one step each. On CUDA a longer answer is decoded by a captured graph after the first tokens
(`cuda_graph.py`); where that fails, eager steps go on. With prompt lookup every step is eager and may give several tokens
(`prompt_lookup.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from omnidrop_cli.config import GenerationConfig
from omnidrop_cli.engine import cuda_graph
from omnidrop_cli.engine.choose import choose
from omnidrop_cli.engine.constraint import JsonConstraint, json_answer
from omnidrop_cli.engine.cuda_graph import CapturedDecode, CudaGraphRunner
from omnidrop_cli.engine.decode_step import step
from omnidrop_cli.engine.prefill import Prefilled
from omnidrop_cli.engine.prompt_lookup import LookupDecoding, conversation_text
from omnidrop_cli.engine.sampling import Sampler, TextStream
from omnidrop_cli.outputs import Answer

if TYPE_CHECKING:
    from omnidrop_cli.model.thinker import Thinker

Say = Callable[[str], None]


def _ignore(_: str) -> None:
    pass


def generate(
    thinker: Thinker,
    prefilled: Prefilled,
    prompt_ids: Tensor,
    options: GenerationConfig,
    on_text: Say = _ignore,
    *,
    runner: CudaGraphRunner | None = None,
    warn: Say = _ignore,
    earlier: Sequence[Sequence[int]] = (),
) -> Answer:
    """Continue a prompt until an end token, a stop string or `options.max_new_tokens`, or by the most probable of `options.choices`.

    Args:
        prefilled: its cache is left with the rows of the prompt and of every token before the last one.
        prompt_ids: (n,) ids of the whole prompt, for the repetition penalty; pruned tokens count too.
        on_text: receives text as soon as it cannot change.
        runner: captures CUDA graphs; without one every step is eager. `warn` receives one line where it cannot.
        earlier: tokens of answers that are not in the prompt, for prompt lookup.

    Raises:
        OmnidropError: `options.schema` cannot be followed, or the answer was cut before its JSON was complete.
    """
    if options.choices:
        chosen = choose(thinker, prefilled, options.choices)
        on_text(chosen.text)
        return chosen
    sampler = Sampler(thinker, prompt_ids, options)
    decoding = _decoding(thinker, prefilled, prompt_ids, sampler, options, runner, warn, earlier)
    # JSON is shown when it is complete: half of it is no answer.
    stream = TextStream(thinker.tokenizer, options.stop, on_text if sampler.constraint is None else _ignore)
    tokens, reason = list[int](), ""
    try:
        while not reason:
            for token in decoding.next_tokens():
                decoding.chosen.append(token)
                if token in thinker.eos_ids:
                    reason = "eos"
                    break
                tokens.append(token)
                reason = "stop" if stream.push(token) else _end(tokens, sampler.constraint, options.max_new_tokens)
                if reason:
                    break
    finally:
        decoding.close()
    if sampler.constraint is None:
        return Answer(text=stream.finish(), token_ids=tuple(tokens), finish_reason=reason, drafts=decoding.drafts)
    answer = json_answer(stream.finish(), tuple(tokens), reason)
    on_text(answer.text)
    return replace(answer, drafts=decoding.drafts)


def _decoding(
    thinker: Thinker,
    prefilled: Prefilled,
    prompt_ids: Tensor,
    sampler: Sampler,
    options: GenerationConfig,
    runner: CudaGraphRunner | None,
    warn: Say,
    earlier: Sequence[Sequence[int]],
) -> Decoding | LookupDecoding:
    limit = options.max_new_tokens
    if not options.prompt_lookup:
        return Decoding(thinker, prefilled, sampler, limit, runner, warn)
    known = conversation_text(thinker, prompt_ids, earlier)
    return LookupDecoding(thinker, prefilled, sampler, limit, options.prompt_lookup, known)


def _end(tokens: list[int], constraint: JsonConstraint | None, limit: int) -> str:
    """Why an answer that writes no end token ends after `tokens`; empty where it goes on."""
    if constraint is not None and constraint.complete(tokens):
        return "eos"
    return "length" if len(tokens) == limit else ""


class Decoding:
    """The tokens of one answer, one or a few at a time. The caller appends those it accepts to `chosen`, in order."""

    drafts = None
    """Nothing is drafted."""

    def __init__(
        self,
        thinker: Thinker,
        prefilled: Prefilled,
        sampler: Sampler,
        limit: int,
        runner: CudaGraphRunner | None = None,
        warn: Say = _ignore,
    ) -> None:
        """`limit` is the most tokens that will be asked for."""
        self.chosen: list[int] = []
        self._thinker, self._prefilled, self._sampler, self._limit, self._warn = thinker, prefilled, sampler, limit, warn
        self._runner = runner if runner is not None and runner.capture is not None else None
        self._graph: CapturedDecode | None = None
        self._graph_start = 0

    @torch.inference_mode()
    def next_tokens(self) -> list[int]:
        """The token that follows `chosen`; several where a graph has decoded ahead."""
        if not self.chosen:
            return [self._sampler.choose(self._prefilled.logits, self.chosen)]
        if self._graph is not None and (fresh := self._graph.next_tokens(self._sampler, self.chosen, self._limit - len(self.chosen))):
            return fresh
        self.close()
        if self._capture() and self._graph is not None:
            return self._graph.next_tokens(self._sampler, self.chosen, self._limit - len(self.chosen))
        read = len(self.chosen) - 1
        logits = step(self._thinker, self._prefilled.cache, self.chosen[-1], self._prefilled.next_position + read)
        return [self._sampler.choose(logits, self.chosen)]

    def close(self) -> None:
        """Leave the cache with the rows of every chosen token before the last one."""
        if self._graph is not None:
            self._graph.commit(len(self.chosen) - self._graph_start)
            self._graph = None

    def _capture(self) -> bool:
        """Capture a graph where the answer is and may become long enough; whether there is one now."""
        read, left = len(self.chosen) - 1, self._limit - len(self.chosen)
        if self._runner is None or read < cuda_graph.WARMUP_TOKENS or left < cuda_graph.MIN_TOKENS:
            return False
        position = self._prefilled.next_position + read
        self._graph = self._runner.run(self._thinker, self._prefilled.cache, self.chosen[-1], position, left, self._warn)
        self._graph_start = len(self.chosen)
        if self._graph is None:
            self._runner = None
        return self._graph is not None
