"""Stage three: the decoder on rendered clips of all lengths, encoded by the trained encoders, with media tokens dropped between layers.

The encoders stay as they are: trained along on answers alone they lost, within a hundred steps, what stage one had taught them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from omnidrop_cli.nano.train import drop_schedule
from omnidrop_cli.nano.train.answer_loss import early_loss, loss_and_hits
from omnidrop_cli.nano.train.decoder_stage import climb
from omnidrop_cli.nano.train.optim import Optimiser
from omnidrop_cli.nano.train.prefetch import Seen, Stream
from omnidrop_cli.nano.train.samples import Packer, TrainingSample, thin

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2_5OmniThinkerForConditionalGeneration


CHOICES = 0.3
"""Share of multiple choice."""

EARLY = 0.5
"""Weight of knowing the answer by the last layer that surely has media tokens. Without it, a letter was sought by asking of every option
whether it occurs: the answer itself was formed at the very end, too late to look for it among the options."""


class JointStage:
    """See the module."""

    name = "joint"

    def __init__(
        self,
        model: Qwen2_5OmniThinkerForConditionalGeneration,
        tokenizer: PreTrainedTokenizerFast,
        clips: Stream,
        media_layers: int,
        block_tokens: int = 200,
    ) -> None:
        self._model, self._clips, self._block_tokens, self._media_layers = model, clips, block_tokens, media_layers
        self._packer = Packer(tokenizer)
        thinker = model.model
        thinker.language_model.embed_tokens.weight.requires_grad_(False)
        free = [w for w in thinker.language_model.parameters() if w.requires_grad]
        self.optimiser = Optimiser([w for w in free if w.dim() == 2], [w for w in free if w.dim() != 2])

    def step(self, rng: np.random.Generator, progress: float) -> tuple[float, list[tuple[str, bool]]]:
        drawn = self._clips.take(self.optimiser.steps)
        samples = [self._sample(clip, rng, drawn.budget) for clip in drawn.clips]
        chosen = [clip.media[torch.from_numpy(one.chosen)] for clip, one in zip(drawn.clips, samples, strict=True)]
        media = torch.cat(chosen).to(self._model.device)
        batch = self._packer.collate(samples).to(media.device)
        layers = len(self._model.model.language_model.layers)
        keep = drop_schedule.random_shares(layers, self._media_layers, len(samples), rng)
        norm, head = self._model.model.language_model.norm, self._model.lm_head
        low = list(climb(self._model, batch, media, keep))
        loss, hits = loss_and_hits(norm(low[-1]), head, batch, samples)
        self._packer.note(hits)
        (loss + EARLY * early_loss(norm(low[self._media_layers - 1]), head, batch)).backward()
        return loss.item(), hits

    def _sample(self, clip: Seen, rng: np.random.Generator, budget: int | None) -> TrainingSample:
        count = len(clip.labels)
        chosen = np.arange(count) if budget is None else thin(clip.labels, rng, budget / count)
        return TrainingSample(clip.timeline, clip.labels, chosen, self._packer.pick(clip.timeline, rng, self._block_tokens, CHOICES))
