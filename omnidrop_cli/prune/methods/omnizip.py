"""OmniZip: sound decides how much of the picture is kept (arXiv 2511.14582; methods.md 2).

Knows: audio-guided video budgets and the interleaved spatio-temporal compression. Audio anchors are `merging.py`, density peaks
`diversity.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from omnidrop_cli.outputs import Modality
from omnidrop_cli.prune import diversity, topk
from omnidrop_cli.prune.base import InputView, PromptInfo, Selection
from omnidrop_cli.prune.composition import InputMethod
from omnidrop_cli.prune.groups import MediaLayout, frame_chunks
from omnidrop_cli.prune.merging import select_and_merge
from omnidrop_cli.prune.method_options import option

RATE_MIN, RATE_MAX = 0.35, 0.75
RATE_MEANS = (0.45, 0.7)
"""Mean drop rates for which the published bounds leave room; outside, both bounds move along."""


@dataclass(frozen=True)
class OmniZip(InputMethod):
    """Audio by its encoder's attention plus merged anchors; chunks with much retained audio keep more video.

    `audio_keep` counts the anchors: rho_a = 0.3 with 5 % anchors keeps 75 %. A group is a two-second chunk, its frames its temporal
    grids (the code since v2), or their halves (`frames`, the first code: raw frame count over a merged pair). Audio-guided budgets
    are rounded to an exact total by `topk.top_by_share`; the published code truncates frame by frame.
    """

    name: ClassVar[str] = "omnizip"
    summary: ClassVar[str] = "audio-guided video budgets, merged audio anchors, before the language model"
    paper: ClassVar[str] = "arXiv 2511.14582"
    needs: ClassVar[frozenset[str]] = frozenset({"audio_attention"})
    ratios = ((0.3, 0.65), (0.4, 0.75))
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper-45": {"audio_keep": 0.75, "video_keep": 0.4},
        "paper-35": {"audio_keep": 0.65, "video_keep": 0.3},
        "omnisift-25": {"audio_keep": 0.45, "video_keep": 0.25},
    }

    anchors: float = option(0.05, "share of audio kept as contextual anchors", low=0, high=0.5)
    merge: int = option(3, "tokens merged into each anchor (G; 15 on AVUT)", low=0, high=100)
    spatial: Literal["paper", "v2", "v1"] = option("paper", "centres of even frames: density peaks of the paper, of the code, or none (v1)")
    frames: Literal["grids", "halves"] = option("grids", "frames of a chunk: temporal grids, or their halves as in the first code")

    def make_input_stage(self, prompt: PromptInfo, layout: MediaLayout, audio: int, video: int) -> AudioGuided:
        layout = MediaLayout.of(prompt.tokens, halves=self.frames == "halves")
        return AudioGuided(audio, video, layout, self.anchors, self.merge, self.spatial)


@dataclass(frozen=True)
class AudioGuided:
    """Keeps `audio` tokens, and `video` tokens spread over chunks by how much of their sound was kept."""

    audio: int
    video: int
    layout: MediaLayout
    anchors: float
    merge: int
    spatial: diversity.Peaks

    def __call__(self, view: InputView) -> Selection:
        if view.audio.shape[0] and view.audio_attention is None:
            raise ValueError("audio is ranked by the attention of its encoder, and none was given")
        if view.audio_attention is None or self.audio == view.audio.shape[0]:
            kept, embeds = torch.arange(self.audio, device=view.audio.device), None
        else:
            chosen = select_and_merge(view.audio, view.audio_attention, view.video, self.audio, share=self.anchors, merge=self.merge)
            kept, embeds = chosen.index, chosen.embeds
        return Selection(audio=kept, video=self._video(view, kept), audio_embeds=embeds)

    def _video(self, view: InputView, audio: Tensor) -> Tensor:
        present, size = view.video.shape[0], self.layout.frame_size
        if self.video == present:
            return torch.arange(present, device=view.video.device)
        chunks = frame_chunks(view.tokens, size)
        rates = self._rates(view, audio, chunks)
        scores = interleaved_scores(view.video.view(-1, size, view.video.shape[1]), chunks, self.spatial)
        shares = (1 - rates)[topk.on_device(chunks, rates)] * size
        frame = torch.arange(present, device=view.video.device) // size
        return topk.top_by_share(scores.flatten(), frame, shares, self.video)

    def _rates(self, view: InputView, audio: Tensor, chunks: Sequence[int]) -> Tensor:
        """(chunks,) drop rate of each chunk's video."""
        count = max(int(view.tokens.chunk.max()) + 1, 1)
        of_audio = view.tokens.chunk[view.tokens.modality == Modality.AUDIO].tolist()
        heard = [of_audio.count(chunk) for chunk in range(count)]
        sizes = [chunks.count(chunk) * self.layout.frame_size for chunk in range(count)]
        number = topk.on_device(of_audio, audio)[audio]
        retained = topk.segment_sizes(number, count) / topk.on_device(heard, audio).clamp(min=1)
        guided = [bool(h and s) for h, s in zip(heard, sizes, strict=True)]
        return guided_rates(retained, sizes, guided, 1 - self.video / view.video.shape[0])


def guided_rates(retained: Tensor, sizes: Sequence[int], guided: Sequence[bool], mean: float) -> Tensor:
    """(groups,) drop rates: max - (max - min) * retained share of audio (Eq. 5), scaled to a token-weighted `mean`.

    Groups without sound keep the mean. As in the code, with more than two groups the lowest and highest rate stay fixed, the others
    are scaled to the mean, clamped, shifted by what is left, and clamped again.
    """
    low, high = _bounds(mean)
    where = torch.tensor(guided).to(retained.device, non_blocking=True)
    weight = torch.tensor(sizes, dtype=torch.float32).to(retained.device, non_blocking=True) * where
    rates = (high - (high - low) * retained).clamp(low, high)
    if sum(guided) > 2:
        fixed = torch.zeros_like(where)
        fixed.index_fill_(0, rates.masked_fill(~where, float("inf")).argmin(dim=0, keepdim=True), True)
        fixed.index_fill_(0, rates.masked_fill(~where, float("-inf")).argmax(dim=0, keepdim=True), True)
        target = mean * weight.sum()
        others = weight * ~fixed
        scale = (target - (rates * weight * fixed).sum()) / (rates * others).sum().clamp(min=1e-6)
        scaled = torch.where(fixed, rates, (rates * scale).clamp(low, high))
        left = (target - (scaled * weight).sum()) / others.sum().clamp(min=1e-6)
        rates = torch.where(fixed, scaled, (scaled + left).clamp(low, high))
    return torch.where(where, rates, torch.full_like(rates, mean))


def interleaved_scores(frames: Tensor, groups: Sequence[int], spatial: diversity.Peaks) -> Tensor:
    """(f, s) score of each token of `frames` (f, s, d): even frames of a group by cluster centres, odd ones by change since the last.

    `groups` is the group of each frame; a group's frames follow one another.
    """
    count, size, width = frames.shape
    first = {group: len(groups) - 1 - place for place, group in enumerate(reversed(groups))}
    even = [frame for frame, group in enumerate(groups) if (frame - first[group]) % 2 == 0]
    centres = diversity.density_peaks(frames[topk.on_device(even, frames)], spatial)
    change = -topk.similarity_to(frames.reshape(count * size, width), size, [max(frame - 1, 0) for frame in range(count)])
    return change.index_copy(0, topk.on_device(even, frames), centres)


def _bounds(mean: float) -> tuple[float, float]:
    shift = min(mean - RATE_MEANS[0], 0.0) + max(mean - RATE_MEANS[1], 0.0)
    return max(0.0, RATE_MIN + shift), min(1.0, RATE_MAX + shift)
