"""OmniFocus: windows that match the question keep more; in a window half of the tokens by agreement, half by novelty (arXiv 2607.03050)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from omnidrop_cli.outputs import Modality
from omnidrop_cli.prune import topk
from omnidrop_cli.prune.base import InputView, PromptInfo, Selection
from omnidrop_cli.prune.composition import InputMethod
from omnidrop_cli.prune.cosines import Directions
from omnidrop_cli.prune.groups import GridPairs, MediaLayout

RATE_MIN, RATE_MAX = 0.35, 0.75
"""Drop rates of the window that matches the question best and of the one that matches it least, before the common offset."""

OFFSETS, ROUNDS = 256, 3
"""Offsets that are tried at once, and rounds of it: each narrows the offset by that factor, down to the precision of float32."""


@dataclass(frozen=True)
class OmniFocus(InputMethod):
    """Query-guided budgets per window and modality, without any encoder attention.

    A window is two temporal grids and the audio heard meanwhile (two seconds of audio without video). Its relevance is the highest
    cosine of its tokens with the mean question embedding. Half of a window's budget (floor) goes to the tokens most similar to the other
    modality's mean in the window, the rest to those least similar to the window's own mean; where the other modality is absent, all of
    it. Budgets are rounded to an exact total by `topk.top_by_share`.
    """

    name: ClassVar[str] = "omnifocus"
    summary: ClassVar[str] = "budgets by the question, tokens by agreement and novelty, before the language model"
    paper: ClassVar[str] = "arXiv 2607.03050"
    ratios = ()
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {"paper-25": {"audio_keep": 0.25, "video_keep": 0.25}}

    def make_input_stage(self, prompt: PromptInfo, layout: MediaLayout, audio: int, video: int) -> Focus:
        return Focus(audio, video)


@dataclass(frozen=True)
class Focus:
    """Keeps `audio` and `video` tokens, more of the windows that match the question."""

    audio: int
    video: int

    def __call__(self, view: InputView) -> Selection:
        of_audio, of_video, windows = windows_of(view)
        audio, video = Directions.of(view.audio), Directions.of(view.video)
        segments = [topk.on_device(numbers, view.audio) for numbers in (of_audio, of_video)]
        means = [_means(x, segment, windows) for x, segment in zip((audio, video), segments, strict=True)]
        query = view.query.float().sum(dim=0)
        return Selection(
            audio=_select(audio, segments[0], query, means[0], means[1], self.audio),
            video=_select(video, segments[1], query, means[1], means[0], self.video),
        )


def windows_of(view: InputView) -> tuple[Sequence[int], Sequence[int], int]:
    """The window of each audio and of each video token, and the number of windows."""
    pairs = GridPairs.of(view.tokens, trailing=True)
    if not pairs.count:
        chunks = view.tokens.chunk[view.tokens.modality == Modality.AUDIO].tolist()
        return chunks, (), max(chunks, default=0) + 1
    size = view.video.shape[0] // len(pairs.grid)
    return pairs.audio, pairs.frames(size), pairs.count


def _means(tokens: Directions, segment: Tensor, windows: int) -> Tensor:
    """(windows, d) mean of the unit vectors of every window; zero where there is none."""
    number = torch.arange(windows, device=segment.device)[:, None]
    sums = tokens.rows.new_zeros(windows, tokens.rows.shape[1], dtype=torch.float32)
    for some, unit in tokens.blocks():
        sums.addmm_((segment[some] == number).float(), unit)
    return sums / topk.segment_sizes(segment, windows)[:, None].clamp(min=1)


def _select(tokens: Directions, segment: Tensor, query: Tensor, own: Tensor, other: Tensor, keep: int) -> Tensor:
    """(keep,) ascending indices of the tokens kept of one modality: n `tokens` in windows `segment` (n,)."""
    present, windows = tokens.scale.shape[0], own.shape[0]
    if keep in (0, present):
        return torch.arange(keep, device=tokens.rows.device)
    match, agreement, likeness = _cosines(tokens, segment, query, other, own)
    shares, novelty = window_budgets(match, segment, windows, keep), 1 - likeness
    count = topk.segment_sizes(segment[topk.top_by_share(novelty, segment, shares, keep)], windows)
    agreeing = torch.where(other.any(dim=1), count // 2, 0)
    first = topk.ranks_within(agreement, segment, windows) < agreeing[segment]
    rest = topk.ranks_within(novelty.masked_fill(first, float("-inf")), segment, windows) < (count - agreeing)[segment]
    return topk.true_indices(first | rest, keep)


def _cosines(tokens: Directions, segment: Tensor, query: Tensor, *means: Tensor) -> list[Tensor]:
    """(n,) cosines of all tokens with `query` (d,), and with the mean of their own window in each of `means` (windows, d)."""
    query, units = normalize(query, dim=0), [normalize(mean, dim=-1) for mean in means]
    parts = [[unit @ query, *((unit * windows[segment[some]]).sum(dim=-1) for windows in units)] for some, unit in tokens.blocks()]
    return [torch.cat(pieces) for pieces in zip(*parts, strict=True)]


def window_budgets(match: Tensor, segment: Tensor, windows: int, keep: int) -> Tensor:
    """(windows,) tokens due to every window, which sum to `keep`.

    The drop rate rises linearly from `RATE_MIN` to `RATE_MAX` with 1 - softmax of the windows' relevance; one offset, found by
    narrowing an interval, makes the rates, clamped to [0, 1], meet the budget. `match` (n,) is each token's cosine with the question.
    """
    sizes = topk.segment_sizes(segment, windows)
    lowest = torch.full((windows,), -1.0, device=match.device)
    relevance = lowest.scatter_reduce(0, segment, match, "amax").masked_fill(sizes == 0, float("-inf"))
    distance = 1 - relevance.softmax(dim=0)
    least = distance.masked_fill(sizes == 0, float("inf")).amin()
    most = distance.masked_fill(sizes == 0, float("-inf")).amax()
    rates = RATE_MIN + (distance - least) / (most - least).clamp(min=1e-12) * (RATE_MAX - RATE_MIN)
    steps = torch.arange(OFFSETS + 1, device=match.device) / OFFSETS
    low, width = -torch.ones_like(least), 2.0
    for _ in range(ROUNDS):
        offsets = low + width * steps
        too_many = (sizes * (1 - (rates + offsets[:, None]).clamp(0, 1))).sum(dim=1) > keep  # true, then false: kept tokens only fall
        width /= OFFSETS
        low = low + width * (too_many.sum() - 1).clamp(min=0)
    return sizes * (1 - (rates + (low + width)).clamp(0, 1))
