"""An answer out of given ones: each is scored by the probability that the model writes exactly it, and nothing after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from omnidrop_cli.engine.decode_step import step
from omnidrop_cli.errors import UsageError
from omnidrop_cli.outputs import Answer, Choice
from omnidrop_cli.prompt.chat_template import plain_ids

if TYPE_CHECKING:
    from omnidrop_cli.engine.prefill import Prefilled
    from omnidrop_cli.model.thinker import Thinker


@torch.inference_mode()
def choose(thinker: Thinker, prefilled: Prefilled, texts: Sequence[str]) -> Answer:
    """The most probable of `texts` as the answer; `Answer.choices` holds all of them with their probabilities.

    The probability of a text is the product over its tokens and the end of the answer, under the pruned prompt, normalised over the
    texts. One decode step per token; the cache is cut back to the prompt's rows after each text.

    Raises:
        UsageError: two texts are the same tokens, or one has none.
    """
    tokens = [plain_ids(text, thinker.tokenizer, thinker.spec) for text in texts]
    if not all(tokens) or len({tuple(ids) for ids in tokens}) < len(tokens):
        raise UsageError("`choices` are not all different to the model", "give texts that differ in letters or digits")
    scores = torch.tensor([_log_probability(thinker, prefilled, ids) for ids in tokens], dtype=torch.float64)
    found = tuple(map(Choice, texts, scores.softmax(0).tolist(), scores.tolist()))
    best = int(scores.argmax())
    return Answer(texts[best], tuple(tokens[best]), "choice", found)


def _log_probability(thinker: Thinker, prefilled: Prefilled, ids: Sequence[int]) -> float:
    """Natural logarithm of the probability that the answer is `ids` and ends there."""
    lengths = prefilled.cache.lengths
    logits, total = prefilled.logits, 0.0
    try:
        for read, token in enumerate(ids):
            total += float(_log_softmax(logits)[token])
            logits = step(thinker, prefilled.cache, token, prefilled.next_position + read)
    finally:
        prefilled.cache.truncate(lengths)
    return total + float(_log_softmax(logits)[list(thinker.eos_ids)].logsumexp(0))


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.double().log_softmax(-1)
