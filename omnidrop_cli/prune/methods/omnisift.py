"""OmniSIFT: video by what stands out, audio by what the kept video shows (arXiv 2602.04804; methods.md 3).

Knows: the saliency of a chunk's two grids, and which tokens the trained selector is asked about. The network is `audio_selector.py`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from omnidrop_cli.errors import UsageError
from omnidrop_cli.outputs import Modality
from omnidrop_cli.prune import topk
from omnidrop_cli.prune.audio_selector import AudioSelector, has_selector, load_selector, untrained_selector
from omnidrop_cli.prune.base import InputView, Plan, PromptInfo, Selection
from omnidrop_cli.prune.composition import InputMethod
from omnidrop_cli.prune.groups import MediaLayout, Segments, frame_chunks, proportional
from omnidrop_cli.prune.method_options import option

CHUNKS_AT_ONCE = 64
"""Two minutes of sound go through the selector together; memory does not grow beyond that."""

UNTRAINED = "untrained"


@dataclass(frozen=True)
class OmniSift(InputMethod):
    """Per two-second chunk: the first grid keeps what is unlike its mean, the second what is unlike the whole first (STVP); audio is
    ranked by a small network that attends to the chunk's kept video (VGAS).

    Without `selector` that network is the one in the model's own checkpoint, and untrained where there is none. The published decoder
    was trained along with it; on another decoder its scores have no published value. Sound in chunks without pictures is scored by
    itself, where the published code leaves it whole.
    """

    name: ClassVar[str] = "omnisift"
    summary: ClassVar[str] = "salient video, audio chosen by a trained selector, before the language model"
    paper: ClassVar[str] = "arXiv 2602.04804"
    ratios = ((0.23, 0.5), (0.33, 0.6))
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper-35": {"audio_keep": 0.6, "video_keep": 0.33},
        "paper-25": {"audio_keep": 0.5, "video_keep": 0.23},
    }

    selector: str | None = option(
        None, "checkpoint file or directory with thinker.compressor.* weights, or `untrained`; without, the model's own, if it has one"
    )

    def plan(self, prompt: PromptInfo) -> Plan:
        plan = super().plan(prompt)
        if plan.input_stage is None:
            return plan
        told = self.selector or (UNTRAINED if self._weights(prompt) is None else "the model's own")
        return Plan(plan.input_stage, None, {**(plan.metadata or {}), "selector": told})

    def make_input_stage(self, prompt: PromptInfo, layout: MediaLayout, audio: int, video: int) -> Sift:
        weights = self._weights(prompt)
        return Sift(audio, video, layout, None if weights is None else load_selector(weights))

    def _weights(self, prompt: PromptInfo) -> str | None:
        """Where trained weights are, None for none."""
        if self.selector is not None:
            return None if self.selector == UNTRAINED else self.selector
        own = prompt.checkpoint
        return str(own) if own is not None and has_selector(own) else None


@dataclass(frozen=True)
class Sift:
    """Keeps `audio` and `video` tokens, the same share of every chunk. The steps are open to training, which needs the scores."""

    audio: int
    video: int
    layout: MediaLayout
    selector: AudioSelector | None

    @torch.no_grad()
    def __call__(self, view: InputView) -> Selection:
        video = self.salient(view)
        present = view.audio.shape[0]
        if self.audio == present:
            return Selection(torch.arange(present, device=view.audio.device), video)
        return Selection(self.best(view, self.scores(view, video)), video)

    def salient(self, view: InputView) -> Tensor:
        """(video,) ascending indices of the video tokens that stand out (STVP)."""
        present, size = view.video.shape[0], self.layout.frame_size
        if self.video == present:
            return torch.arange(present, device=view.video.device)
        similarity = topk.similarity_to(view.video, size, saliency_references(frame_chunks(view.tokens, size)))
        return topk.least_similar(similarity, self._keep_counts())

    def scores(self, view: InputView, video: Tensor) -> Tensor:
        """(n_a,) the selector's score of every audio token beside the kept `video` (VGAS); gradients reach the selector."""
        dim = view.audio.shape[1]
        selector = (self.selector or untrained_selector(dim)).to(view.audio.device)
        if selector.dim != dim:
            raise UsageError(f"the selector reads embeddings of {selector.dim}, and this model has {dim}", "give the model's own selector")
        frames = zip(frame_chunks(view.tokens, self.layout.frame_size), self._keep_counts(), strict=True)
        of_video = [chunk for chunk, count in frames for _ in range(count)]
        return torch.cat(list(_scores(selector, view.audio, _audio_chunks(view), view.video[video], of_video)))

    def best(self, view: InputView, scores: Tensor) -> Tensor:
        """(audio,) ascending indices of the best-scored audio tokens of every chunk."""
        groups = Segments.of(_audio_chunks(view))
        return topk.top_within(scores, topk.on_device(groups.number, scores), groups.keep_counts(self.audio))

    def _keep_counts(self) -> tuple[int, ...]:
        return proportional((self.layout.frame_size,) * self.layout.frames, self.video)


def _audio_chunks(view: InputView) -> list[int]:
    chunks: list[int] = view.tokens.chunk[view.tokens.modality == Modality.AUDIO].tolist()
    return chunks


def saliency_references(chunks: Sequence[int]) -> list[int]:
    """The frame each frame is compared with: a chunk's first with itself (its mean), the others with that first."""
    first: dict[int, int] = {}
    return [first.setdefault(chunk, frame) for frame, chunk in enumerate(chunks)]


def _scores(selector: AudioSelector, audio: Tensor, of_audio: Sequence[int], video: Tensor, of_video: Sequence[int]) -> Iterator[Tensor]:
    """Scores of all audio tokens in order, a block of chunks at a time. `of_audio` and `of_video` are ascending chunks."""
    chunks = sorted(set(of_audio))
    for start in range(0, len(chunks), CHUNKS_AT_ONCE):
        block = chunks[start : start + CHUNKS_AT_ONCE]
        heard, is_heard = _padded(audio, of_audio, block)
        seen, shown = _padded(video, of_video, block)
        flat = selector(heard, seen, shown).flatten()
        yield flat[topk.true_indices(is_heard.flatten(), sum(bisect_right(of_audio, c) - bisect_left(of_audio, c) for c in block))]


def _padded(features: Tensor, chunks: Sequence[int], block: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(c, longest, d) float32 tokens of each chunk of `block`, zeros after the last, and (c, longest) where there is one."""
    spans = [(bisect_left(chunks, chunk), bisect_right(chunks, chunk)) for chunk in block]
    longest = max(1, *(end - start for start, end in spans))
    token = [start + i for start, end in spans for i in range(end - start)]
    place = [row * longest + i for row, (start, end) in enumerate(spans) for i in range(end - start)]
    at = topk.on_device(place, features)
    flat = features.new_zeros(len(block) * longest, features.shape[1], dtype=torch.float32)
    there = torch.zeros(len(block) * longest, dtype=torch.bool, device=features.device)
    flat.index_copy_(0, at, features[topk.on_device(token, features)].float())
    return flat.view(len(block), longest, -1), there.index_fill_(0, at, True).view(len(block), longest)
