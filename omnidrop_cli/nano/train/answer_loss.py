"""Loss and accuracy over the answers of a batch.

An answer is right when greedy decoding would write all of it: the most likely token at every position, the end included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnidrop_cli.nano.train.samples import IGNORE, Batch, TrainingSample

QUESTIONS = 4096
"""More than any clip is asked in one batch."""


def loss_and_hits(
    hidden: Tensor, head: nn.Linear, batch: Batch, samples: Sequence[TrainingSample]
) -> tuple[Tensor, list[tuple[str, bool]]]:
    """Mean cross-entropy over questions (a list weighs more than a word), and per question its kind and whether it was right."""
    answers = _Answers.at(hidden, head, batch, batch.targets)
    kinds = [_kind(samples, number) for number in answers.questions.tolist()]
    missed = answers.sums((answers.logits.argmax(1) != answers.wanted).float())
    return answers.loss(), list(zip(kinds, (missed == 0).tolist(), strict=True))


def early_loss(hidden: Tensor, head: nn.Linear, batch: Batch) -> Tensor:
    """The same loss against what is to be known early, from normed hidden states below the last layer."""
    return _Answers.at(hidden, head, batch, batch.early).loss()


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """The p places that count: `logits` (p, v), the tokens `wanted` (p,), of which of the `questions` (q,) each is, `index` (p,)."""

    logits: Tensor
    wanted: Tensor
    questions: Tensor
    index: Tensor

    @classmethod
    def at(cls, hidden: Tensor, head: nn.Linear, batch: Batch, wanted: Tensor) -> _Answers:
        places = wanted != IGNORE
        questions, index = (places.nonzero()[:, 0] * QUESTIONS + batch.block[places]).unique(return_inverse=True)
        return cls(head(hidden[places]).float(), wanted[places], questions, index)

    def loss(self) -> Tensor:
        """A question of n tokens weighs as much as the root of n: a list is right only if all of it is."""
        losses = F.cross_entropy(self.logits, self.wanted, reduction="none")
        return (losses / self.sums(torch.ones_like(losses))[self.index].sqrt()).sum() / len(self.questions)

    def sums(self, values: Tensor) -> Tensor:
        """(q,) sums over each question's places of float `values` (p,)."""
        return values.new_zeros(len(self.questions)).index_add_(0, self.index, values)


def _kind(samples: Sequence[TrainingSample], number: int) -> str:
    question = samples[number // QUESTIONS].questions[number % QUESTIONS]
    return f"choice {question.style}" if question.style and question.category != "drill" else question.kind


@dataclass(slots=True)
class AnswerScore:
    """Right answers by kind."""

    right: dict[str, int] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)

    def add(self, hits: Sequence[tuple[str, bool]]) -> None:
        for kind, hit in hits:
            self.right[kind] = self.right.get(kind, 0) + int(hit)
            self.asked[kind] = self.asked.get(kind, 0) + 1

    def mean(self) -> float:
        """Mean over kinds."""
        return sum(self.right[k] / n for k, n in self.asked.items()) / max(1, len(self.asked))

    def line(self) -> str:
        return " ".join(f"{kind}={self.right[kind] / count:.2f}" for kind, count in sorted(self.asked.items()))
