"""Greedy decoding that drafts from text it has (prompt lookup decoding, Saxena 2023), exact to the token.

In: a prefilled prompt, and earlier answers of the conversation. Out: the tokens of the answer, several per decoder step where it repeats
text. The answer's last tokens are looked up in that text and in the answer itself, and what followed them there is read in one step with
the last token. Drafted tokens that greedy decoding chooses too are taken, with the one it chooses after them; the cache is cut back to
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from torch import Tensor

from omnidrop_cli.engine.decode_step import read_together, step
from omnidrop_cli.outputs import DraftCounts

if TYPE_CHECKING:
    from omnidrop_cli.engine.prefill import Prefilled
    from omnidrop_cli.engine.sampling import Sampler
    from omnidrop_cli.model.thinker import Thinker

NGRAMS = (3, 2)
"""Numbers of last tokens that are looked up, the longest first. One token alone seldom leads anywhere (docs/results/benchmarks.md)."""

BREAK = -1
"""Stands between texts that do not follow each other; no token has this id."""


class KnownText:
    """Token ids that a draft may repeat: texts of the conversation, then the answer as it grows."""

    def __init__(self, ids: Iterable[int]) -> None:
        """`ids` hold `BREAK` between texts."""
        self._ids: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}  # an n-gram, and where the text after its latest occurrence begins
        self.extend(ids)

    def extend(self, ids: Iterable[int]) -> None:
        """Add tokens at the end."""
        for token in ids:
            here = len(self._ids)
            self._after.update({tuple(self._ids[here - size :]): here for size in NGRAMS if size <= here})
            self._ids.append(token)

    def draft(self, count: int) -> list[int]:
        """At most `count` tokens that followed the last ones where they occurred before; none where they did not.

        The latest occurrence of the longest n-gram counts. Text that reaches its own end is repeated: "a b a b" continues "a b a b …".
        """
        size = next((size for size in NGRAMS if tuple(self._ids[-size:]) in self._after), None)
        if size is None:
            return []
        start, drafted = self._after[tuple(self._ids[-size:])], list[int]()
        while len(drafted) < count:
            place = start + len(drafted)
            token = self._ids[place] if place < len(self._ids) else drafted[place - len(self._ids)]
            if token == BREAK:
                break
            drafted.append(token)
        return drafted


def conversation_text(thinker: Thinker, prompt_ids: Tensor, earlier: Sequence[Sequence[int]] = ()) -> list[int]:
    """What the conversation holds as text: `earlier` answers that the prompt leaves out, then the prompt without its media.

    An earlier answer begins as answers do in a prompt, so that an answer's first token is found in it.

    Args:
        prompt_ids: (n,) ids of the whole prompt.
        earlier: token ids of each answer.
    """
    spec, found = thinker.spec, list[int]()
    prompt: list[int] = prompt_ids.tolist()
    for answer in earlier:
        found += [*prompt[1 - NGRAMS[0] :], *answer, BREAK]
    for token in prompt:
        if token not in (spec.video, spec.audio):
            found.append(token)
        elif found[-1:] != [BREAK]:
            found.append(BREAK)
    return found


class LookupDecoding:
    """The tokens of one greedy answer, several at a time where it repeats text. The caller appends those it takes to `chosen`, in order."""

    def __init__(self, thinker: Thinker, prefilled: Prefilled, sampler: Sampler, limit: int, width: int, known: Sequence[int]) -> None:
        """Start an answer.

        Args:
            sampler: must not sample.
            limit: most tokens that will be asked for.
            width: most tokens drafted per step.
            known: text that the answer may repeat (`conversation_text`).
        """
        self.chosen: list[int] = []
        self._thinker, self._prefilled, self._sampler, self._limit, self._width = thinker, prefilled, sampler, limit, width
        self._known = KnownText(known)
        self._start = prefilled.cache.lengths
        self._seen = 0  # tokens of `chosen` that are known text already
        self._agreed = 0  # drafted tokens at the head of what was returned last
        self._steps = self._drafted = self._accepted = 0

    @property
    def drafts(self) -> DraftCounts:
        """What was drafted, and taken of it, up to the last call of `next_tokens` or `close`."""
        return DraftCounts(self._steps, self._drafted, self._accepted)

    def next_tokens(self) -> list[int]:
        """The tokens that follow `chosen`: the drafted ones that greedy decoding chooses too, and the one it chooses after them."""
        self.close()
        if not self.chosen:
            return [self._sampler.choose(self._prefilled.logits, self.chosen)]
        draft = self._draft()
        cache, last, position = self._prefilled.cache, self.chosen[-1], self._prefilled.next_position + len(self.chosen) - 1
        if draft:
            logits = read_together(self._thinker, cache, [last, *draft], position)
        else:
            logits = step(self._thinker, cache, last, position)[None]
        tokens = self._sampler.choose_along(logits, self.chosen, draft)
        self._agreed = len(tokens) - 1
        self._steps += 1
        self._drafted += len(draft)
        return tokens

    def close(self) -> None:
        """Leave the cache with the rows of every chosen token before the last one."""
        fresh = self.chosen[self._seen :]
        self._accepted += min(len(fresh), self._agreed)
        self._agreed = 0
        self._known.extend(fresh)
        self._seen = len(self.chosen)
        read = max(0, len(self.chosen) - 1)
        self._prefilled.cache.truncate(tuple(length + read for length in self._start))

    def _draft(self) -> list[int]:
        """The next draft. It is short enough for one more token behind it, and ends before an end token, after which nothing is read."""
        draft = self._known.draft(min(self._width, self._limit - len(self.chosen) - 1))
        return list(takewhile(lambda token: token not in self._thinker.eos_ids, draft))
