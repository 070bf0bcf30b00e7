"""Stage two: the decoder learns to answer from media tokens as perfect encoders would make them.

Encoders may train at the same time, since both aim at the same text rows, which stay as they were initialised.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from omnidrop_cli.nano.train import drop_schedule, ideal_tokens, packed_forward
from omnidrop_cli.nano.train.answer_loss import loss_and_hits
from omnidrop_cli.nano.train.labels import label
from omnidrop_cli.nano.train.optim import Optimiser
from omnidrop_cli.nano.train.samples import Batch, Packer, TrainingSample, thin
from omnidrop_cli.nano.train.train_tokenizer import row_ids
from omnidrop_cli.nano.world.scenario import Profile, Scenario, sample
from omnidrop_cli.prompt.spec import PromptSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2_5OmniThinkerForConditionalGeneration

LENGTHS: tuple[tuple[float, Profile], ...] = (
    (0.6, Profile(2, 8)),
    (0.2, Profile(8, 16, needle=0.15)),
    (0.2, Profile(10, 40, needle=0.7)),
)
"""Shares of short, middling and long clips; all of them from the first step, since lengths do not transfer by themselves."""


CHOICES = 0.12
"""Share of multiple choice: few, since it is long and rests on the open questions' skills; stage three asks more."""


class DecoderStage:
    """See the module."""

    name = "decoder"

    def __init__(
        self,
        model: Qwen2_5OmniThinkerForConditionalGeneration,
        tokenizer: PreTrainedTokenizerFast,
        media_layers: int,
        clips: int = 12,
        block_tokens: int = 170,
    ) -> None:
        self._model, self._clips, self._block_tokens, self._media_layers = model, clips, block_tokens, media_layers
        self._spec = PromptSpec.from_config(model.config, tokenizer)
        self._packer = Packer(tokenizer)
        text = model.model.language_model
        self._rows = text.embed_tokens.weight.detach()[list(row_ids(tokenizer).values())].float().clone()
        text.embed_tokens.weight.requires_grad_(False)
        free = [w for w in text.parameters() if w.requires_grad]
        self.optimiser = Optimiser([w for w in free if w.dim() == 2], [w for w in free if w.dim() != 2])

    def step(self, rng: np.random.Generator, progress: float) -> tuple[float, list[tuple[str, bool]]]:
        budget = int(rng.integers(40, 140))
        samples = [self._sample(rng, draw(rng), budget) for _ in range(self._clips)]
        batch = self._packer.collate(samples).to(self._rows.device)
        media = ideal_tokens.embed(samples, self._rows, rng)
        layers = len(self._model.model.language_model.layers)
        keep = drop_schedule.full_then_none(layers, self._media_layers, len(samples))
        hidden = forward(self._model, batch, media, keep)
        loss, hits = loss_and_hits(hidden, self._model.lm_head, batch, samples)
        self._packer.note(hits)
        loss.backward()
        return loss.item(), hits

    def _sample(self, rng: np.random.Generator, timeline: Scenario, budget: int) -> TrainingSample:
        labels = label(timeline, self._spec)
        return TrainingSample(
            timeline, labels, thin(labels, rng, budget / len(labels)), self._packer.pick(timeline, rng, self._block_tokens, CHOICES)
        )


def draw(rng: np.random.Generator, lengths: Sequence[tuple[float, Profile]] = LENGTHS) -> Scenario:
    """A clip of a random length class."""
    number = int(rng.choice(len(lengths), p=[share for share, _ in lengths]))
    return sample(rng, lengths[number][1])


def forward(
    model: Qwen2_5OmniThinkerForConditionalGeneration, batch: Batch, media: Tensor, keep: Tensor | None, choice: Tensor | None = None
) -> Tensor:
    """Hidden states (b, t, d) of the question blocks after the last layer and norm.

    `media` (n, d) are the embeddings of all media tokens, clip after clip. `choice` (2, n) is a selection of them in training, as in
    `packed_forward.Shared`.
    """
    return packed_forward.run(model, *_embedded(model, batch, media, choice), keep)


def climb(model: Qwen2_5OmniThinkerForConditionalGeneration, batch: Batch, media: Tensor, keep: Tensor | None) -> Iterator[Tensor]:
    """Hidden states (b, t, d) of the question blocks after one layer after the other, before the norm. Arguments as in `forward`."""
    return packed_forward.climb(model, *_embedded(model, batch, media, None), keep)


def _embedded(
    model: Qwen2_5OmniThinkerForConditionalGeneration, batch: Batch, media: Tensor, choice: Tensor | None
) -> tuple[packed_forward.Shared, packed_forward.Blocks]:
    table = model.model.language_model.embed_tokens
    hidden = table(batch.shared)
    hidden = hidden.masked_scatter(batch.media[..., None], media.to(hidden.dtype))
    if choice is not None:
        choice = choice.new_ones(2, *batch.media.shape).masked_scatter(batch.media[None], choice)
    shared = packed_forward.Shared(hidden, batch.shared_positions, batch.shared_valid, batch.media, choice)
    return shared, packed_forward.Blocks(table(batch.ids), batch.positions, batch.allowed)
