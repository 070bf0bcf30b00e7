"""Stage four: OmniSIFT's audio selector, trained through its hard choice on the answers of a finished model (arXiv 2602.04804).

Encoders and decoder stay as they are. The paper trains the decoder along; then every other method would be judged on a decoder trained for
this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omnidrop_cli.nano.train import drop_schedule
from omnidrop_cli.nano.train.answer_loss import loss_and_hits
from omnidrop_cli.nano.train.decoder_stage import forward
from omnidrop_cli.nano.train.labels import MediaLabels
from omnidrop_cli.nano.train.optim import Optimiser
from omnidrop_cli.nano.train.prefetch import Stream
from omnidrop_cli.nano.train.samples import Packer, TrainingSample
from omnidrop_cli.prune.audio_selector import AudioSelector
from omnidrop_cli.prune.base import InputView
from omnidrop_cli.prune.groups import MediaLayout
from omnidrop_cli.prune.methods.omnisift import OmniSift, Sift

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2_5OmniThinkerForConditionalGeneration

WIDTH = 128
"""A quarter of the published width: 0.12 million parameters, a fiftieth of the model it selects for."""

KEEP = (0.05, 0.5)
"""Shares of audio and video kept in training, drawn evenly."""

MOST = 250
"""Tokens kept of one clip at most: half a minute's worth would cost as much as all other clips of a step together."""


class SelectorStage:
    """See the module."""

    name = "selector"

    def __init__(
        self,
        model: Qwen2_5OmniThinkerForConditionalGeneration,
        tokenizer: PreTrainedTokenizerFast,
        clips: Stream,
        media_layers: int,
        block_tokens: int = 170,
        seed: int = 0,
    ) -> None:
        self._model, self._clips = model.requires_grad_(False), clips
        self._block_tokens, self._media_layers = block_tokens, media_layers
        self._packer = Packer(tokenizer)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.selector = AudioSelector(model.config.text_config.hidden_size, WIDTH).to(model.device)
        free = list(self.selector.parameters())
        # The head's last matrix is a single row, which has no directions to balance.
        matrices = [w for w in free if w.dim() == 2 and len(w) > 1]
        self.optimiser = Optimiser(matrices, [w for w in free if w.dim() != 2 or len(w) == 1])

    def step(self, rng: np.random.Generator, progress: float) -> tuple[float, list[tuple[str, bool]]]:
        samples: list[TrainingSample] = []
        media: list[Tensor] = []
        choice: list[Tensor] = []
        for clip in self._clips.take(self.optimiser.steps).clips:
            keep = min(float(rng.uniform(*KEEP)), MOST / len(clip.labels))
            tokens = clip.media.to(self._model.device)
            stays, scores = sift(clip.labels, tokens, self.selector, keep)
            given = _with_some_others(stays.cpu(), clip.labels.audio, rng)
            at = torch.from_numpy(given).to(tokens.device)
            samples.append(TrainingSample(clip.timeline, clip.labels, given, self._packer.pick(clip.timeline, rng, self._block_tokens)))
            media.append(tokens[at])
            choice.append(torch.stack([stays[at].float(), scores[at]]))
        batch = self._packer.collate(samples).to(self._model.device)
        layers = len(self._model.model.language_model.layers)
        shares = drop_schedule.full_then_none(layers, self._media_layers, len(samples))
        hidden = forward(self._model, batch, torch.cat(media), shares, torch.cat(choice, 1))
        loss, hits = loss_and_hits(hidden, self._model.lm_head, batch, samples)
        self._packer.note(hits)
        # Silent clips alone teach a selector of sound nothing; their gradient is zero rather than none, so that replicas can share it.
        loss = loss + 0.0 * sum(weight.sum() for weight in self.selector.parameters())
        loss.backward()
        return loss.item(), hits


def sift(labels: MediaLabels, media: Tensor, selector: AudioSelector | None, keep: float) -> tuple[Tensor, Tensor]:
    """What `omnisift` keeps of a clip's tokens `media` (n, d): (n,) whether a token stays, and (n,) the `selector`'s scores.

    Video is not scored; it has ones. No selector is the untrained one. A gradient reaches the selector through the scores.
    """
    audio, video = (torch.from_numpy(where.nonzero()[0]).to(media.device) for where in (labels.audio, ~labels.audio))
    view = InputView(labels.block.tokens, media[audio], media[video], media[:0])
    layout = MediaLayout.of(view.tokens)
    stage = Sift(*OmniSift(keep=keep).counts(layout), layout, selector)
    salient = stage.salient(view)
    stays, scores = torch.zeros(len(media), dtype=torch.bool, device=media.device), torch.ones(len(media), device=media.device)
    stays[video[salient]] = True
    if len(audio):
        given = stage.scores(view, salient)
        scores = scores.index_copy(0, audio, given)
        stays[audio[stage.best(view, given.detach())]] = True
    return stays, scores


def _with_some_others(stays: Tensor, audio: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    """Ascending indices of what stays and of as many audio tokens that go: enough to learn from, at a known cost."""
    kept = stays.numpy()
    gone = np.nonzero(audio & ~kept)[0]
    some = rng.permutation(gone)[: int((audio & kept).sum())]
    return np.sort(np.concatenate([np.nonzero(kept)[0], some]))
