"""DASH: video segments follow the boundaries of the audio (arXiv 2603.15685)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from omnidrop_cli.prune import topk
from omnidrop_cli.prune.base import SCOPE_HELP, InputView, PromptInfo, Selection, audio_attention_need
from omnidrop_cli.prune.composition import InputMethod, paper_ratios
from omnidrop_cli.prune.groups import MediaLayout
from omnidrop_cli.prune.merging import select_and_merge
from omnidrop_cli.prune.method_options import option
from omnidrop_cli.prune.segments import SegmentFrames, audio_segments, video_segments

BOUNDARY_WEIGHT, UNIQUE_WEIGHT, ATTENTION_WEIGHT = 0.4, 0.3, 0.3
SCALES = (0.125, 0.25, 0.5, 1.0, 2.0)

GUIDANCE = 0.1
"""How far a segment's drop rate moves with the share of its audio that was kept."""

VIDEO_ONLY_RELIEF, VIDEO_ONLY_RATE_MIN = 0.15, 0.35
"""Without audio the published code drops 15 points less of the video, but at least 35 %."""


@dataclass(frozen=True)
class Dash(InputMethod):
    """Audio by boundary, uniqueness and attention; video compressed segment by segment, less where more audio was kept.

    `audio_keep` counts the contextual tokens: rho_a = 0.45 keeps 60 %. The preset `paper` runs the published code: a frame is half a
    temporal grid, a segment begins at any token, tokens after its last whole frame are dropped, and a segment shorter than two frames
    (one grid) is kept whole. With `frames=grids` boundaries fall on the nearest grid, and no segment is shorter than one. With
    explicit ratios, clips without audio keep 15 points more of the video, as published; with `keep` they keep what was asked for.

    Video budgets are rounded to an exact total by `topk.top_by_share`, where the published code truncates frame by frame. It fuses the
    three audio scores always (its first boundary probability is 1 by construction), and so does this.
    """

    name: ClassVar[str] = "dash"
    summary: ClassVar[str] = "segments cut where the audio changes, before the language model"
    paper: ClassVar[str] = "arXiv 2603.15685"
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {"paper": {"audio_keep": 0.6, "video_keep": 0.24, "frames": "halves"}}
    ratios = paper_ratios(presets)

    threshold: float = option(0.4, "cosine of neighbouring audio tokens below which a segment begins", low=-1, high=1)
    min_segment: int = option(30, "audio tokens of the shortest segment", low=1)
    contextual: float = option(0.05, "share of audio kept as contextual tokens, which merge others", low=0, high=0.5, old=("anchors",))
    merge: int = option(3, "tokens merged into each contextual token", low=0, high=100)
    spatial: Literal["paper", "v2", "v1"] = option("v1", "spatial selection: density peaks, or none as in the published code (v1)")
    frames: Literal["grids", "halves"] = option("grids", "frames of a segment: temporal grids, or their halves as in the published code")
    audio_scope: Literal["window", "clip"] = option("clip", SCOPE_HELP)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({audio_attention_need(self.audio_scope)})

    def counts(self, layout: MediaLayout) -> tuple[int, int]:
        """See `InputMethod.counts`. Clips without audio keep more video when ratios are explicit."""
        audio, video = super().counts(layout)
        if self.video_keep is None or layout.audio or not layout.video:
            return audio, video
        rate = max(min(VIDEO_ONLY_RATE_MIN, 1 - self.video_keep), 1 - self.video_keep - VIDEO_ONLY_RELIEF)
        return audio, max(1, round((1 - rate) * layout.video))

    def make_input_stage(self, prompt: PromptInfo, layout: MediaLayout, audio: int, video: int) -> AudioSegmented:
        return AudioSegmented(audio, video, MediaLayout.of(prompt.tokens, halves=self.frames == "halves"), self)


@dataclass(frozen=True)
class AudioSegmented:
    """Keeps `audio` and `video` tokens by the options of `method`."""

    audio: int
    video: int
    layout: MediaLayout
    method: Dash

    def __call__(self, view: InputView) -> Selection:
        cosine = torch.cosine_similarity(view.audio[:-1].float(), view.audio[1:].float(), dim=-1)
        audio, embeds = self._audio(view, cosine)
        return Selection(audio=audio, video=self._video(view, cosine, audio), audio_embeds=embeds)

    def _audio(self, view: InputView, cosine: Tensor) -> tuple[Tensor, Tensor | None]:
        """Ascending indices of the kept audio, and its embeddings after merging; None where nothing was merged."""
        if self.audio in (0, view.audio.shape[0]):
            return torch.arange(self.audio, device=view.audio.device), None
        if view.audio_attention is None:
            raise ValueError("audio is ranked by the attention of its encoder, and none was given")
        scores, method = fused_scores(view.audio, cosine, view.audio_attention), self.method
        merged = select_and_merge(view.audio, scores, view.video, self.audio, share=method.contextual, merge=method.merge)
        return merged.index, merged.embeds

    def _video(self, view: InputView, cosine: Tensor, audio: Tensor) -> Tensor:
        """Ascending indices of the kept video, where `audio` holds the indices of the kept audio."""
        present, heard, method = view.video.shape[0], view.audio.shape[0], self.method
        if self.video == present:
            return torch.arange(present, device=view.video.device)
        segments = heard // method.min_segment + 1
        rates = torch.full((segments,), 1 - self.video / present, device=view.video.device)
        of_video = torch.zeros(present, dtype=torch.int64, device=view.video.device)
        if heard:
            of_audio = audio_segments(cosine, method.threshold, method.min_segment)
            kept = topk.segment_sizes(of_audio[audio], segments) / topk.segment_sizes(of_audio, segments).clamp(min=1)
            rates = (rates + GUIDANCE * (0.5 - kept)).clamp(0.1, 0.95)
            of_video = video_segments(of_audio, self.layout, whole=method.frames == "grids")
        # The published "shorter than two frames" means two half grids.
        frames = SegmentFrames.of(of_video, segments, self.layout.frame_size, shortest=MediaLayout.of(view.tokens).frame_size)
        return topk.top_by_share(frames.scores(view.video, method.spatial), frames.group, frames.shares(rates), self.video)


def fused_scores(audio: Tensor, cosine: Tensor, attention: Tensor) -> Tensor:
    """(n,) 0.4 boundary + 0.3 uniqueness + 0.3 attention, each at most 1. The first token counts as a boundary."""
    boundary = torch.cat((cosine.new_ones(1), ((1 - cosine) / 2).clamp(0, 1)))
    attended = attention.float() / (attention.float().max() + 1e-6)
    return BOUNDARY_WEIGHT * boundary + UNIQUE_WEIGHT * uniqueness(audio) + ATTENTION_WEIGHT * attended


def uniqueness(audio: Tensor) -> Tensor:
    """(n,) 1 - similarity to the mean, over its maximum: Gaussians of five widths on the calmer half of the channels (VidCom2)."""
    features = audio.float()
    if features.shape[1] > 10:
        calm = topk.lowest(features.var(dim=0, unbiased=False), features.shape[1] // 2)
        features = features[:, topk.ascending(calm, features.shape[1])]
    unit = normalize(features, dim=-1)
    squared = (unit - unit.mean(dim=0)).square().sum(dim=-1)
    similarity = torch.stack([(-squared / (2 * scale)).exp() for scale in SCALES]).sum(dim=0)
    return 1 - similarity / similarity.max().clamp(min=1e-6)
