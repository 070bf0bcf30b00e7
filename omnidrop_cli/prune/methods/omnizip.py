"""OmniZip: the audio that is kept decides how much video is kept (arXiv 2511.14582)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from omnidrop_cli.prune import diversity, topk
from omnidrop_cli.prune.base import SCOPE_HELP, InputView, PromptInfo, Selection, audio_attention_need
from omnidrop_cli.prune.composition import InputMethod, paper_ratios
from omnidrop_cli.prune.groups import GridPairs, MediaLayout
from omnidrop_cli.prune.merging import select_and_merge
from omnidrop_cli.prune.method_options import option

RATE_MIN, RATE_MAX = 0.35, 0.75
"""Bounds of a window's video drop rate (Eq. 5)."""

RATE_MEANS = (0.45, 0.7)
"""Mean drop rates that the published bounds allow; for others, both bounds move."""

UNNORMALISED_WINDOWS = 2
"""Number of windows up to which the published code leaves the rates of Eq. 5 as they are, whatever ratio was asked for."""

V1: Mapping[str, object] = {"frames": "halves", "spatial": "v1"}
"""Options of the code that the paper's tables were made with."""

V2: Mapping[str, object] = {"frames": "grids", "spatial": "v2"}
"""Options of the code published since."""


@dataclass(frozen=True)
class OmniZip(InputMethod):
    """Audio: the highest encoder attention, and 5 % contextual tokens that merge some of the rest (Sec. 3.2). Video: windows of two
    temporal grids; those with much retained audio keep more (Eq. 5); frames alternate between spatial and temporal selection (Sec. 3.3).

    `audio_keep` counts the contextual tokens: rho_a = 0.3 with 5 % keeps 75 %. The presets `paper-*` run the code behind the paper's
    tables, which takes half a temporal grid for a frame and has no density peaks; `v2-*` run the code published since; without a preset
    the paper's text is followed. Video budgets are rounded to an exact total by `topk.top_by_share`, where the published code truncates
    frame by frame. With explicit ratios (presets) clips of at most two windows keep what Eq. 5 gives, as published; with `keep` they
    keep what was asked for.
    """

    name: ClassVar[str] = "omnizip"
    summary: ClassVar[str] = "audio-guided video budgets, contextual audio tokens, before the language model"
    paper: ClassVar[str] = "arXiv 2511.14582"
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper-45": {"audio_keep": 0.75, "video_keep": 0.4, **V1},
        "paper-35": {"audio_keep": 0.65, "video_keep": 0.3, **V1},
        "v2-45": {"audio_keep": 0.75, "video_keep": 0.4, **V2},
        "v2-35": {"audio_keep": 0.65, "video_keep": 0.3, **V2},
        "omnisift-25": {"audio_keep": 0.45, "video_keep": 0.25, **V1},
    }
    ratios = paper_ratios(presets)

    contextual: float = option(0.05, "share of audio kept as contextual tokens, which merge others", low=0, high=0.5, old=("anchors",))
    merge: int = option(3, "tokens merged into each contextual token (G; 15 on AVUT)", low=0, high=100)
    spatial: Literal["paper", "v2", "v1"] = option(
        "paper", "spatial selection: density peaks of the paper or of the second code, or none (v1)"
    )
    frames: Literal["grids", "halves"] = option("grids", "frames of a window: temporal grids, or their halves as in the first code")
    audio_scope: Literal["window", "clip"] = option("clip", SCOPE_HELP)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({audio_attention_need(self.audio_scope)})

    def counts(self, layout: MediaLayout) -> tuple[int, int]:
        """See `InputMethod.counts`. Short clips with explicit ratios keep the video that Eq. 5 gives."""
        audio, video = super().counts(layout)
        windows = -(-layout.frames // 2)
        if self.video_keep is None or not layout.audio or not layout.video or windows > UNNORMALISED_WINDOWS:
            return audio, video
        low, high = _bounds(1 - self.video_keep)
        return audio, min(layout.video, max(1, round((1 - high + (high - low) * audio / layout.audio) * layout.video)))

    def make_input_stage(self, prompt: PromptInfo, layout: MediaLayout, audio: int, video: int) -> AudioGuided:
        layout = MediaLayout.of(prompt.tokens, halves=self.frames == "halves")
        mean = None if self.video_keep is None else 1 - self.video_keep
        return AudioGuided(audio, video, layout, self.contextual, self.merge, self.spatial, mean)


@dataclass(frozen=True)
class AudioGuided:
    """Keeps `audio` tokens, and `video` tokens spread over windows by how much of their audio was kept.

    `mean_rate` is the video drop rate that windows are scaled to; None for the one that `video` amounts to.
    """

    audio: int
    video: int
    layout: MediaLayout
    contextual: float
    merge: int
    spatial: diversity.Peaks
    mean_rate: float | None = None

    def __call__(self, view: InputView) -> Selection:
        if view.audio.shape[0] and view.audio_attention is None:
            raise ValueError("audio is ranked by the attention of its encoder, and none was given")
        if view.audio_attention is None or self.audio == view.audio.shape[0]:
            kept, embeds = torch.arange(self.audio, device=view.audio.device), None
        else:
            merged = select_and_merge(view.audio, view.audio_attention, view.video, self.audio, share=self.contextual, merge=self.merge)
            kept, embeds = merged.index, merged.embeds
        return Selection(audio=kept, video=self._video(view, kept), audio_embeds=embeds)

    def _video(self, view: InputView, audio: Tensor) -> Tensor:
        present, size = view.video.shape[0], self.layout.frame_size
        if self.video == present:
            return torch.arange(present, device=view.video.device)
        pairs = GridPairs.of(view.tokens)
        windows = pairs.frames(self.layout.frames // len(pairs.grid))
        rates = self._rates(view, audio, pairs, windows)
        scores = interleaved_scores(view.video.view(-1, size, view.video.shape[1]), windows, self.spatial)
        shares = (1 - rates)[topk.on_device(windows, rates)] * size
        frame = torch.arange(present, device=view.video.device) // size
        return topk.top_by_share(scores.flatten(), frame, shares, self.video)

    def _rates(self, view: InputView, audio: Tensor, pairs: GridPairs, windows: Sequence[int]) -> Tensor:
        """(pairs,) drop rate of each window's video, given the kept `audio` indices."""
        heard = [pairs.audio.count(pair) for pair in range(pairs.count)]
        sizes = [windows.count(pair) * self.layout.frame_size for pair in range(pairs.count)]
        number = topk.on_device([pair if pair >= 0 else pairs.count for pair in pairs.audio], audio)[audio]
        retained = topk.segment_sizes(number, pairs.count + 1)[:-1] / topk.on_device(heard, audio).clamp(min=1)
        mean = 1 - self.video / view.video.shape[0] if self.mean_rate is None else self.mean_rate
        return guided_rates(retained, sizes, [bool(count) for count in heard], mean)


def guided_rates(retained: Tensor, sizes: Sequence[int], guided: Sequence[bool], mean: float) -> Tensor:
    """(windows,) drop rates: max - (max - min) * retained share of audio (Eq. 5), scaled to a token-weighted `mean`.

    Windows without audio take the mean. As in the published code, with more than two guided windows the lowest and the highest rate stay
    fixed, and the others are scaled to the mean, clamped, shifted by the remainder, and clamped again.

    Args:
        retained: (windows,) share of each window's audio that was kept.
        sizes: video tokens of each window.
        guided: whether a window has audio.
        mean: wanted mean drop rate.
    """
    low, high = _bounds(mean)
    where = torch.tensor(guided).to(retained.device, non_blocking=True)
    weight = torch.tensor(sizes, dtype=torch.float32).to(retained.device, non_blocking=True) * where
    rates = (high - (high - low) * retained).clamp(low, high)
    if sum(guided) > UNNORMALISED_WINDOWS:
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


def interleaved_scores(frames: Tensor, windows: Sequence[int], spatial: diversity.Peaks) -> Tensor:
    """(f, s) score of each token of `frames` (f, s, d): a window's even frames by spatial selection, odd ones by change since the last.

    `windows` is the window of each frame; a window's frames are consecutive (Sec. 3.3).
    """
    count, size, width = frames.shape
    first = {window: len(windows) - 1 - place for place, window in enumerate(reversed(windows))}
    even = [frame for frame, window in enumerate(windows) if (frame - first[window]) % 2 == 0]
    centres = diversity.density_peaks(frames[topk.on_device(even, frames)], spatial)
    change = -topk.similarity_to(frames.reshape(count * size, width), size, [max(frame - 1, 0) for frame in range(count)])
    return change.index_copy(0, topk.on_device(even, frames), centres)


def _bounds(mean: float) -> tuple[float, float]:
    """Lowest and highest drop rate for a `mean`: the published ones, moved where they do not allow it."""
    shift = min(mean - RATE_MEANS[0], 0.0) + max(mean - RATE_MEANS[1], 0.0)
    return max(0.0, RATE_MIN + shift), min(1.0, RATE_MAX + shift)
