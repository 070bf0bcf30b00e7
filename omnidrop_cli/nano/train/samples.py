"""From timelines and questions to padded training batches.

Positions are those of `prompt/` (tested). The stages fill in the embeddings of media tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omnidrop_cli.nano.train import drills
from omnidrop_cli.nano.train.labels import MediaLabels
from omnidrop_cli.nano.train.train_tokenizer import SYSTEM
from omnidrop_cli.nano.world import multiple_choice
from omnidrop_cli.nano.world.questions import WorldQuestion, ask
from omnidrop_cli.nano.world.scenario import Scenario

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

IGNORE = -100
POSITIONS_PER_SECOND = 25


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSample:
    """One clip: its labels, which of its media tokens are fed (`chosen`, ascending), and packed questions."""

    timeline: Scenario
    labels: MediaLabels
    chosen: NDArray[np.int64]
    questions: tuple[WorldQuestion, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Right-padded arrays of several samples.

    The part that all questions of a clip see: `shared` (b, s) token ids, `shared_positions` (3, b, s), `shared_valid` and `media` (b, s)
    bool. The question blocks: `ids`, `targets` and `early` (b, t), `positions` (3, b, t), `block` (b, t) the question's number, -1 padding.
    """

    shared: Tensor
    shared_positions: Tensor
    shared_valid: Tensor
    media: Tensor
    ids: Tensor
    targets: Tensor
    early: Tensor
    positions: Tensor
    block: Tensor

    @property
    def allowed(self) -> Tensor:
        """(b, t, t): a token sees earlier ones of its own question; padding sees itself, lest a softmax be empty."""
        same = self.block[:, :, None] == self.block[:, None, :]
        return same & torch.ones(same.shape[1:], dtype=torch.bool, device=same.device).tril()

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        return Batch(**{part.name: getattr(self, part.name).to(device) for part in fields(self)})


@dataclass(frozen=True, slots=True)
class Block:
    """A question's tokens from its first on; at each the token to say next (`targets`) and the one to know by then (`early`), else IGNORE.

    Both are the answer, but of a multiple choice: there the letter is said, and known is the first word of the right option.
    """

    ids: list[int]
    targets: list[int]
    early: list[int]


class Packer:
    """Writes samples as token ids. Keeps what was asked and how well it was answered, to ask most about what is least mastered."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._asked: dict[str, float] = defaultdict(float)
        self._mastered: dict[str, float] = {}
        self._cache: dict[str, list[int]] = {}
        self._head = self._encode(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n")
        self._tail = self._encode("<|im_end|>\n<|im_start|>assistant\n")

    def pick(self, timeline: Scenario, rng: np.random.Generator, tokens: int, choices: float = 0.2) -> tuple[WorldQuestion, ...]:
        """Questions worth `tokens` tokens, the least asked kinds first, drills among them; a share as multiple choice."""
        pool = [*ask(timeline, rng), *drills.draw(timeline, rng)]
        order = sorted(pool, key=lambda q: self._asked[q.kind] * (0.7 + 0.6 * rng.random()))
        picked: list[WorldQuestion] = []
        for question in order:
            made = question
            if not made.style and rng.random() < choices and multiple_choice.can_choose(question):
                made = multiple_choice.as_choice(question, multiple_choice.STYLES[int(rng.integers(len(multiple_choice.STYLES)))], rng)
            cost = len(self.block(made).ids)
            if cost > tokens:
                break
            tokens -= cost
            self._asked[question.kind] += 1 / (WEIGHTS.get(question.kind, 1.0) * (1.08 - self._mastered.get(question.kind, 0.0)))
            picked.append(made)
        return tuple(picked)

    def note(self, hits: Sequence[tuple[str, bool]]) -> None:
        """Remember how well kinds are answered (a running mean), so that mastered ones are asked less."""
        for kind, hit in hits:
            self._mastered[kind] = 0.99 * self._mastered.get(kind, 0.0) + 0.01 * hit

    def prefix(self, labels: MediaLabels) -> list[int]:
        """Text ids before the media, opening markers included."""
        return [*self._head, *labels.block.ids[: labels.marks].tolist()]

    def block(self, question: WorldQuestion) -> Block:
        """The question, its answer and the answer's end."""
        asked = [*self._encode(question.text), *self._tail]
        answer = [*self._encode(" " + question.answer), self._tail[0]]
        unanswered = [IGNORE] * (len(asked) - 1)
        known = answer
        if question.style:
            right = question.options[multiple_choice.LETTERS.index(question.answer)]
            known = [self._encode(" " + right)[0], *[IGNORE] * (len(answer) - 1)]
        return Block([*asked, *answer[:-1]], [*unanswered, *answer], [*unanswered, *known])

    def collate(self, samples: Sequence[TrainingSample]) -> Batch:
        """Pad to the longest of each part."""
        heads, blocks = [self.prefix(s.labels) for s in samples], [self._blocks(s) for s in samples]
        wide = padded(max(len(head) + len(s.chosen) for head, s in zip(heads, samples, strict=True)))
        long = padded(max(own.shape[1] for own in blocks))
        count = len(samples)
        shared, shared_positions = np.zeros((count, wide), np.int64), np.zeros((3, count, wide), np.int64)
        valid, media = np.zeros((count, wide), bool), np.zeros((count, wide), bool)
        ids, positions = np.zeros((count, long), np.int64), np.zeros((3, count, long), np.int64)
        targets, early, block = (np.full((count, long), empty, np.int64) for empty in (IGNORE, IGNORE, -1))
        text = len(self._head)
        for row, (sample, head, own) in enumerate(zip(samples, heads, blocks, strict=True)):
            start, stop, rest = len(head), len(head) + len(sample.chosen), own.shape[1]
            shared[row, :start], valid[row, :stop], media[row, start:stop] = head, True, True
            shared_positions[:, row, :text] = np.arange(text)
            shared_positions[:, row, text:start] = text
            shared_positions[:, row, start:stop] = sample.labels.positions[:, sample.chosen] + text
            ids[row, :rest], targets[row, :rest], early[row, :rest], place, block[row, :rest] = own
            positions[:, row, :rest] = place + text + sample.labels.block.end
        return Batch(*(torch.from_numpy(a) for a in (shared, shared_positions, valid, media, ids, targets, early, positions, block)))

    def _blocks(self, sample: TrainingSample) -> NDArray[np.int64]:
        """All questions one after the other, (5, t): ids, targets, early ones, positions from the end of the media, question numbers."""
        ends = sample.labels.block.ids[-sample.labels.marks :].tolist()
        ignored, before = [IGNORE] * len(ends), [-1] * len(ends)
        parts = [np.zeros((5, 0), np.int64)]
        for number, question in enumerate(sample.questions):
            own = self.block(question)
            places, numbers = [*before, *range(len(own.ids))], [number] * (len(ends) + len(own.ids))
            parts.append(np.array([[*ends, *own.ids], [*ignored, *own.targets], [*ignored, *own.early], places, numbers]))
        return np.concatenate(parts, 1)

    def _encode(self, text: str) -> list[int]:
        if text not in self._cache:
            if len(self._cache) > 200_000:
                self._cache.clear()
            self._cache[text] = self._tokenizer.encode(text, add_special_tokens=False)
        return self._cache[text]


WEIGHTS = {
    "said while": 5.0, "shown when": 4.0, "shown": 5.0, "second": 3.0, "is shown": 3.0, "is said": 2.0, "side": 3.0, "height": 3.0,
    "shown after": 2.5, "count beeps": 0.8, "count shown": 5.0, "count words": 5.0, "said": 2.0, "said after": 2.5, "half": 3.0,
    "speech": 0.3, "shown with": 2.0,
}  # fmt: skip
"""How often a kind is asked, against the others: binding is what takes longest to learn."""


def padded(length: int) -> int:
    """Up to a multiple of 16: matrix libraries compile a kernel for every new size."""
    return -(-length // 16) * 16


def thin(labels: MediaLabels, rng: np.random.Generator, share: float) -> NDArray[np.int64]:
    """Indices of about `share` of the media tokens; of every event two stay, and one of each second, so no question loses its answer."""
    stays = rng.random(len(labels)) < share
    seconds = labels.positions[0] // POSITIONS_PER_SECOND
    for event in range(int(labels.event.max(initial=-1)) + 1):
        own = np.nonzero(labels.event == event)[0]
        if len(own):
            stays[rng.choice(own, size=min(2, len(own)))] = True
            for second in np.unique(seconds[own]):
                stays[rng.choice(own[seconds[own] == second])] = True
    return np.nonzero(stays)[0]
