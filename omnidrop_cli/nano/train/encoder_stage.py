"""Stage one: the encoders learn to turn frames and audio into the text rows of what is seen and heard.

The decoder may train at the same time on ideal tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from omnidrop_cli.nano.train import batched_encoders, ideal_tokens, render
from omnidrop_cli.nano.train.labels import class_index, label
from omnidrop_cli.nano.train.optim import Optimiser
from omnidrop_cli.nano.train.train_tokenizer import row_ids
from omnidrop_cli.nano.world.scenario import FRAME_CELLS, Profile, Scenario, sample
from omnidrop_cli.nano.world.vocabulary import BEEP, NOISE, NOTHING, PLACES, SILENCE, WORDS
from omnidrop_cli.prompt.spec import PromptSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2_5OmniThinkerForConditionalGeneration

    from omnidrop_cli.nano.world.voices import VoiceBank

SHARPNESS = 10.0
"""Scale of the cosine logits."""

KINDS = (0.45, 0.15, 0.1, 0.3)
"""Shares of objects, shapes, digits and signs: letters take longest to read."""

STRANGERS = 0.7
"""Share of clips whose voice is made a `stranger`'s. Without them, an unseen voice with formants of its own stayed at 64 %."""

CLIP_S = 4
"""Seconds of a clip: two windows of the audio encoder."""

DULL = 0.3
"""Weight of tokens that show or sound of nothing."""


class EncoderStage:
    """See the module."""

    name = "encoders"

    def __init__(
        self,
        model: Qwen2_5OmniThinkerForConditionalGeneration,
        tokenizer: PreTrainedTokenizerFast,
        bank: VoiceBank,
        voices: tuple[int, ...],
        clips: int = 20,
    ) -> None:
        self._model, self._bank, self._clips = model, bank, clips
        self._profile = Profile(CLIP_S, CLIP_S, silent=0.0, sound_only=0.0, voices=voices, kinds=KINDS)
        self._spec = PromptSpec.from_config(model.config, tokenizer)
        self._rows = model.model.language_model.embed_tokens.weight.detach()[list(row_ids(tokenizer).values())].float().clone()
        self._dull = torch.tensor([class_index()[name] for name in (NOTHING, SILENCE, NOISE)], device=self._rows.device)
        free = [w for encoder in (model.model.visual, model.model.audio_tower) for w in encoder.parameters() if w.requires_grad]
        self.optimiser = Optimiser([w for w in free if w.dim() == 2], [w for w in free if w.dim() != 2])

    def step(self, rng: np.random.Generator, progress: float) -> tuple[float, list[tuple[str, bool]]]:
        timelines = [sample(rng, self._profile, self._bank.take) for _ in range(self._clips)]
        tokens, classes, weights = self._encode(timelines, rng)
        clean = ideal_tokens.mixture(classes, weights, self._rows)
        logits = tokens @ self._rows.T * SHARPNESS
        shares = weights / weights.sum(1, keepdim=True)
        target = torch.zeros_like(logits).scatter_add_(1, classes, shares)
        matter = torch.where(torch.isin(classes[:, 0], self._dull), DULL, 1.0)
        losses = -(target * logits.log_softmax(1)).sum(1) + 2 * (tokens - clean).pow(2).sum(1)
        loss = (losses * matter).sum() / matter.sum()
        loss.backward()
        return loss.item(), self._hits(*(part.cpu() for part in (logits.detach(), classes, weights)))

    def _encode(self, timelines: list[Scenario], rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (n, d) of both encoders in fp32, where the model is, with their labels' classes and weights."""
        media = [render.render(timeline, self._bank) for timeline in timelines]
        labels = [label(timeline, self._spec) for timeline in timelines]
        thinker = self._model.model
        tokens, order = [], []
        for cells in dict.fromkeys(FRAME_CELLS):
            same = [i for i, timeline in enumerate(timelines) if timeline.cells == cells]
            if same:
                frames = torch.cat([m.frames for m in (media[i] for i in same) if m.frames is not None])
                tokens.append(batched_encoders.see(thinker.visual, frames, self._spec).flatten(0, 1))
                order += [(i, False) for i in same]
        # The encoder hears two seconds at a time and nothing beyond. Scenes begin with a clip, so its windows would hardly ever cut a word.
        late = int(rng.integers(batched_encoders.WINDOW // batched_encoders.TOKEN))
        mels = [m.mel[:, batched_encoders.TOKEN * late :] for m in media if m.mel is not None]
        tokens += batched_encoders.hear(thinker.audio_tower, [stranger(mel, rng) if rng.random() < STRANGERS else mel for mel in mels])
        order += [(i, True) for i in range(len(media))]
        places = [(labels[i], np.nonzero(labels[i].audio == heard)[0][late * heard :]) for i, heard in order]
        classes = torch.from_numpy(np.concatenate([own.classes[at] for own, at in places]))
        weights = torch.from_numpy(np.concatenate([own.weights[at] for own, at in places]))
        return torch.cat(tokens).float(), classes.to(self._rows.device), weights.to(self._rows.device)

    def _hits(self, logits: Tensor, classes: Tensor, weights: Tensor) -> list[tuple[str, bool]]:
        """Tokens that are mostly one thing, by sort; both words of a shape count, and left against right, top against bottom."""
        clear = (weights[:, 0] > 0.6).nonzero()[::3, 0]
        names, first, places = list(class_index()), class_index()[WORDS[0]], class_index()[PLACES[0]]
        hits: list[tuple[str, bool]] = []
        for token in clear.tolist():
            carried = classes[token][weights[token] > 0]
            wanted = carried[carried < places]
            found = logits[token, :places].topk(len(wanted)).indices
            number = int(wanted[0])
            if names[number] in (NOTHING, SILENCE, NOISE, BEEP):
                sort = names[number]
            else:
                sort = "word" if first <= number < first + len(WORDS) else "item"
            hits.append((sort, bool(torch.isin(wanted, found).all())))
            for place in carried[carried >= places].tolist():
                opposite = places + ((place - places) ^ 1)
                hits.append(("place", bool(logits[token, place] > logits[token, opposite])))
        return hits


def stranger(mel: Tensor, rng: np.random.Generator, bend: float = 0.45) -> Tensor:
    """The sound (bins, time) of a speaker whose formants lie elsewhere: bins move along a random curve that keeps their order.

    `bend` is the spread of the logarithmic widths of eight bands; 0.45 moves the middle by some ten of 128 bins, a quarter in frequency.
    A voice that is only faster or slower moves all formants alike (`voices.STRETCH`); real and synthetic speakers differ in each.
    """
    widths = np.exp(rng.normal(0.0, bend, 8))
    nodes = np.concatenate([[0.0], np.cumsum(widths)]) / widths.sum() * (len(mel) - 1)
    source = torch.from_numpy(np.interp(np.arange(len(mel)), np.linspace(0, len(mel) - 1, len(nodes)), nodes))
    low = source.floor().long().clamp(0, len(mel) - 2)
    part = (source - low).to(mel.dtype)[:, None]
    return mel[low] * (1 - part) + mel[low + 1] * part
