"""Stage three: the decoder on rendered clips of all lengths, as the trained towers see and hear them, losing media tokens on the way up.

Knows: how rendered clips become the decoder's input. Does not know how the parts were trained before; starts from whatever they are.
The towers stay as they are: trained along on answers alone they lost, within a hundred steps, what stage one had taught them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from omnidrop_cli.nano import clips, schedule, towers
from omnidrop_cli.nano.answers import loss_and_hits
from omnidrop_cli.nano.decoder import forward
from omnidrop_cli.nano.labels import label
from omnidrop_cli.nano.optim import Optimiser
from omnidrop_cli.nano.samples import Packer, Sample, thin
from omnidrop_cli.nano.timeline import FRAME_CELLS, Profile, sample
from omnidrop_cli.prompt.spec import PromptSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2_5OmniThinkerForConditionalGeneration

    from omnidrop_cli.nano.voices import VoiceBank

LENGTHS = ((0.55, 2, 8, 0.0), (0.25, 8, 16, 0.2), (0.2, 15, 40, 0.8))
"""Share, least and most seconds, needles among them."""

WHOLE = 0.03
"""Share of steps that show three long clips with every token they have."""


ALL = 1_000_000
"""A budget no clip reaches."""


class JointStage:
    """See the module."""

    name = "joint"

    def __init__(
        self,
        model: Qwen2_5OmniThinkerForConditionalGeneration,
        tokenizer: PreTrainedTokenizerFast,
        bank: VoiceBank,
        voices: tuple[int, ...],
        media_layers: int,
        clips: int = 12,
        block_tokens: int = 170,
    ) -> None:
        self._model, self._bank, self._voices = model, bank, voices
        self._clips, self._block_tokens, self._media_layers = clips, block_tokens, media_layers
        self._spec = PromptSpec.from_config(model.config, tokenizer)
        self._packer = Packer(tokenizer)
        thinker = model.model
        thinker.language_model.embed_tokens.weight.requires_grad_(False)
        free = [w for w in thinker.language_model.parameters() if w.requires_grad]
        self.optimiser = Optimiser([w for w in free if w.dim() == 2], [w for w in free if w.dim() != 2])

    def step(self, rng: np.random.Generator, progress: float) -> tuple[float, list[tuple[str, bool]]]:
        # Three quarters of the steps feed every token, as inference does; the decoder's own stage saw thinned clips only.
        whole = rng.random() < WHOLE
        budget = ALL if whole or rng.random() < 0.75 else int(rng.integers(60, 300))
        samples = [self._sample(rng, budget, whole) for _ in range(3 if whole else self._clips if budget < ALL else self._clips * 2 // 3)]
        with torch.no_grad():
            media = embed(self._model, samples, self._bank, self._spec)
        batch = self._packer.collate(samples)
        layers = len(self._model.model.language_model.layers)
        keep = schedule.random_shares(layers, self._media_layers, len(samples), rng)
        hidden = forward(self._model, batch, media, keep)
        loss, hits = loss_and_hits(hidden, self._model.lm_head, batch, samples)
        self._packer.note(hits)
        loss.backward()
        return loss.item(), hits

    def _sample(self, rng: np.random.Generator, budget: int, whole: bool) -> Sample:
        rows = LENGTHS[-1:] if whole else LENGTHS if budget < ALL else LENGTHS[:2]
        shares = np.array([row[0] for row in rows])
        _, least, most, needle = rows[int(rng.choice(len(rows), p=shares / shares.sum()))]
        timeline = sample(rng, Profile(least, 60 if whole else most, needle=needle, voices=self._voices), self._bank.take)
        labels = label(timeline, self._spec)
        chosen = thin(labels, rng, budget / len(labels))
        return Sample(timeline, labels, chosen, self._packer.pick(timeline, rng, self._block_tokens))


def embed(model: Qwen2_5OmniThinkerForConditionalGeneration, samples: Sequence[Sample], bank: VoiceBank, spec: PromptSpec) -> Tensor:
    """(n, d) embeddings of all samples' chosen tokens, by the towers."""
    thinker = model.model
    media = [clips.render(sample.timeline, bank) for sample in samples]
    seen: dict[int, Tensor] = {}
    for cells in dict.fromkeys(FRAME_CELLS):
        same = [i for i, one in enumerate(samples) if one.timeline.has_video and one.timeline.cells == cells]
        if same:
            tokens = towers.see(thinker.visual, torch.cat([f for f in (media[i].frames for i in same) if f is not None]), spec)
            parts = tokens.split([samples[i].timeline.grids for i in same])
            seen |= {i: part.flatten(0, 1) for i, part in zip(same, parts, strict=True)}
    sounding = [i for i, clip in enumerate(media) if clip.mel is not None]
    mels = [clip.mel for clip in media if clip.mel is not None]
    heard = dict(zip(sounding, towers.hear(thinker.audio_tower, mels), strict=True)) if mels else {}
    parts = []
    for i, one in enumerate(samples):
        audio = torch.from_numpy(one.labels.audio)
        both = torch.cat([part for part in (seen.get(i), heard.get(i)) if part is not None])
        # The n-th video token of the prompt is the n-th of the tower, and likewise for sound: only the interleaving is to be undone.
        order = torch.cat([(~audio).nonzero()[:, 0], audio.nonzero()[:, 0]])
        place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
        parts.append(both[place[torch.from_numpy(one.chosen)]])
    return torch.cat(parts)
