"""DASH: chunks that follow the sound's own boundaries (arXiv 2603.15685).

Knows: where sound changes, the fused audio score, the rate of a segment. Anchors and the interleaved compression are OmniZip's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from omnidrop_cli.prune import topk
from omnidrop_cli.prune.base import SCOPE_HELP, InputView, PromptInfo, Selection, audio_attention_need
from omnidrop_cli.prune.composition import InputMethod
from omnidrop_cli.prune.groups import MediaLayout
from omnidrop_cli.prune.merging import select_and_merge
from omnidrop_cli.prune.method_options import option
from omnidrop_cli.prune.methods.omnizip import interleaved_scores

BOUNDARY_WEIGHT, UNIQUE_WEIGHT, ATTENTION_WEIGHT = 0.4, 0.3, 0.3
SCALES = (0.125, 0.25, 0.5, 1.0, 2.0)
WHOLE_BELOW = 2
"""Segments with fewer frames are kept whole."""


@dataclass(frozen=True)
class Dash(InputMethod):
    """Audio by boundary, uniqueness and attention; video compressed segment by segment, less where more sound was kept.

    `audio_keep` counts the anchors: rho_a = 0.45 keeps 60 %. Segment boundaries fall on whole frames here; the published code cuts
    between any two tokens, which shifts its frames by a part of a grid. It fuses the three scores always (its first boundary
    probability is 1 by construction), and so does this. Budgets are rounded to an exact total by `topk.top_by_share`. The
    boundaries are found on the host: one copy of one number per audio token, before the language model.
    """

    name: ClassVar[str] = "dash"
    summary: ClassVar[str] = "segments cut where the sound changes, before the language model"
    paper: ClassVar[str] = "arXiv 2603.15685"
    ratios = ((0.24, 0.6),)
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {"paper": {"audio_keep": 0.6, "video_keep": 0.24}}

    threshold: float = option(0.4, "cosine of neighbouring audio tokens below which a boundary opens", low=-1, high=1)
    min_segment: int = option(30, "audio tokens between two boundaries", low=1)
    anchors: float = option(0.05, "share of audio kept as contextual anchors", low=0, high=0.5)
    merge: int = option(3, "tokens merged into each anchor", low=0, high=100)
    spatial: Literal["paper", "v2", "v1"] = option("v1", "centres of even frames: density peaks, or none as in the published code (v1)")
    audio_scope: Literal["window", "clip"] = option("clip", SCOPE_HELP)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({audio_attention_need(self.audio_scope)})

    def make_input_stage(self, prompt: PromptInfo, layout: MediaLayout, audio: int, video: int) -> AudioSegmented:
        return AudioSegmented(audio, video, layout, self)


@dataclass(frozen=True)
class AudioSegmented:
    """Keeps `audio` and `video` tokens by the options of `method`."""

    audio: int
    video: int
    layout: MediaLayout
    method: Dash

    def __call__(self, view: InputView) -> Selection:
        present = view.audio.shape[0]
        if present and view.audio_attention is None:
            raise ValueError("audio is ranked by the attention of its encoder, and none was given")
        cosine = torch.cosine_similarity(view.audio[:-1].float(), view.audio[1:].float(), dim=-1)
        kept, embeds = torch.arange(self.audio, device=view.audio.device), None
        if view.audio_attention is not None and self.audio < present:
            scores = fused_scores(view.audio, cosine, view.audio_attention)
            method = self.method
            chosen = select_and_merge(view.audio, scores, view.video, self.audio, share=method.anchors, merge=method.merge)
            kept, embeds = chosen.index, chosen.embeds
        return Selection(audio=kept, video=self._video(view, kept, cosine), audio_embeds=embeds)

    def _video(self, view: InputView, audio: Tensor, cosine: Tensor) -> Tensor:
        present, size = view.video.shape[0], self.layout.frame_size
        if self.video == present:
            return torch.arange(present, device=view.video.device)
        heard = view.audio.shape[0]
        cuts = boundaries(cosine.tolist(), self.method.threshold, self.method.min_segment) if heard else [0]
        segments = frame_segments(cuts, heard, self.layout.frames)
        ends = [*cuts[1:], heard]
        of_audio = [place for place, (start, end) in enumerate(zip(cuts, ends, strict=True)) for _ in range(start, end)]
        sizes = topk.on_device([end - start for start, end in zip(cuts, ends, strict=True)], audio)
        retained = topk.segment_sizes(topk.on_device(of_audio, audio)[audio], len(cuts)) / sizes.clamp(min=1)
        if not heard:
            retained = torch.full_like(retained, 0.5)
        rates = (1 - self.video / present + 0.1 * (0.5 - retained)).clamp(0.1, 0.95)[topk.on_device(segments, audio)]
        whole = torch.tensor([segments.count(segment) < WHOLE_BELOW for segment in segments]).to(rates.device, non_blocking=True)
        shares = torch.where(whole, torch.ones_like(rates), 1 - rates) * size
        scores = interleaved_scores(view.video.view(-1, size, view.video.shape[1]), segments, self.method.spatial)
        frame = torch.arange(present, device=view.video.device) // size
        return topk.top_by_share(scores.flatten(), frame, shares, self.video)


def boundaries(cosine: Sequence[float], threshold: float, min_segment: int) -> list[int]:
    """First tokens of the segments, from the cosines between neighbours: below `threshold`, and `min_segment` after the last one."""
    cuts = [0]
    for place, value in enumerate(cosine, start=1):
        if value < threshold and place - cuts[-1] >= min_segment:
            cuts.append(place)
    return cuts


def frame_segments(cuts: Sequence[int], heard: int, frames: int) -> tuple[int, ...]:
    """The segment of each video frame: audio boundaries mapped linearly, to the nearest frame."""
    starts = [round(cut * frames / heard) if heard else 0 for cut in cuts]
    spans = pairwise([*starts, frames])
    return tuple(segment for segment, (start, end) in enumerate(spans) for _ in range(start, end))


def fused_scores(audio: Tensor, cosine: Tensor, attention: Tensor) -> Tensor:
    """(n,) 0.4 boundary + 0.3 uniqueness + 0.3 attention, each at most 1. The first token counts as a boundary."""
    boundary = torch.cat((cosine.new_ones(1), ((1 - cosine) / 2).clamp(0, 1)))
    attended = attention.float() / (attention.float().max() + 1e-6)
    return BOUNDARY_WEIGHT * boundary + UNIQUE_WEIGHT * uniqueness(audio) + ATTENTION_WEIGHT * attended


def uniqueness(audio: Tensor) -> Tensor:
    """(n,) 1 - similarity to the mean, over its maximum: Gaussians of five widths on the calmer half of the channels (VidCom2)."""
    features = audio.float()
    if features.shape[1] > 10:
        features = features[:, topk.lowest(features.var(dim=0, unbiased=False), features.shape[1] // 2).sort().values]
    unit = normalize(features, dim=-1)
    squared = (unit - unit.mean(dim=0)).square().sum(dim=-1)
    similarity = torch.stack([(-squared / (2 * scale)).exp() for scale in SCALES]).sum(dim=0)
    return 1 - similarity / similarity.max().clamp(min=1e-6)
