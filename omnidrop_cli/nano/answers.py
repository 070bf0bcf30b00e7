"""Loss and accuracy over the answers of a batch.

Knows: which logits count. Does not know where hidden states come from. An answer is right when greedy decoding would write all of it:
the most likely token at every place, the end included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnidrop_cli.nano.samples import IGNORE, Batch, Sample


def loss_and_hits(hidden: Tensor, head: nn.Linear, batch: Batch, samples: Sequence[Sample]) -> tuple[Tensor, list[tuple[str, bool]]]:
    """Mean cross-entropy over questions (each counts once, however long), and per question its kind and whether it was right."""
    places = batch.targets != IGNORE
    logits = head(hidden[places]).float()
    wanted = batch.targets[places]
    rows = places.nonzero()[:, 0]
    question = rows * 4096 + batch.block[places]
    order, index = question.unique(return_inverse=True)
    losses = F.cross_entropy(logits, wanted, reduction="none")
    lengths = torch.zeros(len(order)).index_add_(0, index, torch.ones(len(index)))
    loss = (losses / lengths[index]).sum() / len(order)
    wrong = torch.zeros(len(order)).index_add_(0, index, (logits.argmax(1) != wanted).float())
    kinds = [_kind(samples, int(number)) for number in order]
    return loss, list(zip(kinds, (wrong == 0).tolist(), strict=True))


def _kind(samples: Sequence[Sample], number: int) -> str:
    question = samples[number // 4096].questions[number % 4096]
    return f"choice {question.style}" if question.style and question.category != "drill" else question.kind


@dataclass(slots=True)
class Score:
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
