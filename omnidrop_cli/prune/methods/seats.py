"""SEATS: diverse tokens enter, three drops follow in the middle layers, the last layers see text alone (arXiv 2605.20035)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from omnidrop_cli.outputs import Modality, TokenMap
from omnidrop_cli.prune import topk
from omnidrop_cli.prune.base import LayerView, PromptInfo
from omnidrop_cli.prune.composition import TwoStageMethod, layer_sum, paper_ratios
from omnidrop_cli.prune.groups import GridPairs, MediaLayout
from omnidrop_cli.prune.method_options import option
from omnidrop_cli.prune.methods.divprune import MostDiverse
from omnidrop_cli.prune.schedule import blend

PAPER_LAYERS = 28
DROPS_AFTER = (16, 18, 20)
LATE_AFTER = 23
"""Layers that run before each drop, and before all audio and video is removed, of the 28 of the 7B; other depths take the same shares."""

STEPS = (1.0, 1.0 + math.e, 1.0 + math.e + math.e**2)
"""Tokens dropped after each step, as multiples of the first: the drops grow by e (the code's "exp" schedule)."""


@dataclass(frozen=True)
class Seats(TwoStageMethod):
    """Stage I keeps `scale` times the target by attention-weighted diversity, in windows of two temporal grids and of 50 audio tokens
    (Sec. 3.2). Stage II drops three times by the last token's attention, with budgets per window and modality (Sec. 3.3). Stage III
    removes every audio and video token (Sec. 3.4).

    Departures from the published code:

    - Scores come from the layer's own queries and keys; the code projects the layer's output with the same weights.
    - Window budgets are rounded to an exact total by `topk.top_by_share`.
    - The code also cuts the caches of all earlier layers to the survivors of each drop, so after stage III decoding attends to text
      alone. Here every layer's cache keeps what that layer saw, as for all methods. The first token is the same; later ones may differ.

    The mean of a preset counts tokens entering layers, as the paper does; `keep` counts them after the cut, as everywhere here. Where
    `keep` is so high that late removal cannot reach it, nothing is removed.
    """

    name: ClassVar[str] = "seats"
    summary: ClassVar[str] = "attention-weighted diversity before, three drops inside, text alone at the end"
    paper: ClassVar[str] = "arXiv 2605.20035"
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper-35": {"audio_keep": 0.65, "video_keep": 0.30},
        "paper-25": {"audio_keep": 0.55, "video_keep": 0.20},
        "paper-15": {"audio_keep": 0.45, "video_keep": 0.10},
        "paper-10": {"audio_keep": 0.35, "video_keep": 0.06},
    }
    ratios = paper_ratios(presets)

    scale: float = option(1.4, "tokens that enter layer 0, as a multiple of the target", low=1, high=3)
    late: bool = option(True, "remove all audio and video for the last fifth of the layers")
    temperature: float = option(0.1, "softmax temperature of the budgets over windows", above=0)

    @property
    def entry_scale(self) -> float:
        return self.scale

    def make_input_stage(self, prompt: PromptInfo, layout: MediaLayout, audio: int, video: int) -> MostDiverse:
        return MostDiverse(audio, video, "chunk", weighted=True)

    def entry_budget(self, layout: MediaLayout, layers: int, keep: float) -> int:
        target, total = layer_sum(layout, layers, keep), super().entry_budget(layout, layers, keep)
        if layers == 1:
            return min(layout.total, target)
        while total > 1 and sum(drop_counts(layers, total, target, late=self.late)) > target + 1:
            total -= 1
        return total

    def in_llm_stage_of_ratios(self, prompt: PromptInfo, layout: MediaLayout, entering: tuple[int, int]) -> WindowBudgets:
        """The paper's ratios are means over the tokens that enter the layers."""
        layers = prompt.num_layers
        target = ((self.audio_keep or 0) * layout.audio + (self.video_keep or 0) * layout.video) * layers
        counts = drop_counts(layers, sum(entering), round(target), late=self.late, entering=True)
        return WindowBudgets(counts, entering, *drop_windows(prompt.tokens), self.temperature)

    def make_in_llm_stage(self, prompt: PromptInfo, layout: MediaLayout, entering: tuple[int, int], target: int) -> WindowBudgets:
        counts = drop_counts(prompt.num_layers, sum(entering), target, late=self.late)
        return WindowBudgets(counts, entering, *drop_windows(prompt.tokens), self.temperature)


@lru_cache(maxsize=256)
def drop_counts(layers: int, total: int, target: int, *, late: bool, entering: bool = False) -> tuple[int, ...]:
    """Tokens leaving each layer: constant, three drops that grow by e, and none after the late removal.

    The first drop is solved by bisection so that the counts leaving the layers (`entering`: entering them, the paper's convention) sum
    to `target`. Leaving counts meet it to within one token; entering counts to within what one token of the first drop moves.
    """
    late = late and sum(_counts(layers, total, 0.0, True)) >= target - (total if entering else 0)

    def mass(first: float) -> int:
        counts = _counts(layers, total, first, late)
        return total + sum(counts[:-1]) if entering else sum(counts)

    small, large = 0.0, total / STEPS[-1]
    for _ in range(50):
        middle = (small + large) / 2
        if mass(middle) >= target:
            small = middle
        else:
            large = middle
    upper, lower = (_counts(layers, total, first, late) for first in (small, large))
    if entering or layers == 1:
        return upper
    if sum(lower) > target:
        lower = tuple(min(count, 1) for count in lower)
    return blend(upper, lower, target)


def _counts(layers: int, total: int, first: float, late: bool) -> tuple[int, ...]:
    if layers == 1:
        return (total,)  # the last layer never drops
    drops = [min(max(round(after * layers / PAPER_LAYERS) - 1, 0), layers - 2) for after in DROPS_AFTER]
    end = min(round(LATE_AFTER * layers / PAPER_LAYERS) - 1, layers - 2)
    counts = []
    for layer in range(layers):
        taken = max((step for step, drop in zip(STEPS, drops, strict=True) if layer >= drop), default=0.0)
        alive = max(min(total, 1), math.floor(total - taken * first + 1e-9))
        counts.append(0 if late and layer >= end > max(drops) else alive)
    return tuple(counts)


@dataclass(frozen=True)
class WindowBudgets:
    """Stages II and III: the tokens that the last prompt token attends to most, window by window (Sec. 3.3).

    Attributes:
        counts: tokens leaving each layer.
        entering: (audio, video) tokens that enter layer 0.
        window: the window of every prompt token, as `drop_windows` gives it.
        windows: number of windows.
        temperature: of the softmax over windows.
    """

    counts: tuple[int, ...]
    entering: tuple[int, int]
    window: tuple[int, ...]
    windows: int
    temperature: float

    def keep_count(self, layer: int, alive: int) -> int:
        return min(alive, self.counts[layer])

    def __call__(self, view: LayerView, keep: int) -> Tensor:
        if not keep:
            return torch.empty(0, dtype=torch.int64, device=view.index.device)
        scores = view.attention("last")
        is_video = view.modality == Modality.VIDEO
        if not all(self.entering) or self.windows == 1:
            segment = is_video.long()
            return topk.top_by_share(scores, segment, topk.on_device(self.entering, segment).float(), keep)
        segment = topk.on_device(self.window, view.index)[view.index] * 2 + is_video
        audio, video = (keep * part / sum(self.entering) for part in self.entering)
        return topk.top_by_share(scores, segment, window_shares(scores, segment, self.windows, audio, video, self.temperature), keep)


def drop_windows(tokens: TokenMap) -> tuple[tuple[int, ...], int]:
    """The window of every prompt token (0 for text, which is never asked for), and the number of windows.

    The published code pairs the runs of consecutive video tokens with the runs of consecutive audio tokens. Where every pair of grids has
    its audio, a window is a pair. Audio that goes on after the last grid extends the last audio run, and video without audio extends the
    next video run, or forms one last window without audio.
    """
    pairs = GridPairs.of(tokens, trailing=True)
    heard = set(pairs.audio)
    of_pair = list(accumulate((pair in heard for pair in range(pairs.count)), initial=0))[:-1]
    window = np.zeros(len(tokens), dtype=np.int64)
    if pairs.count:
        window[tokens.modality == Modality.VIDEO] = [of_pair[pairs.grid[grid]] for grid in tokens.grid[tokens.modality == Modality.VIDEO]]
        window[tokens.modality == Modality.AUDIO] = [of_pair[pair] for pair in pairs.audio]
    return tuple(window.tolist()), int(window.max(initial=0)) + 1


def window_shares(scores: Tensor, segment: Tensor, windows: int, audio: float, video: float, temperature: float) -> Tensor:
    """(2 * windows,) tokens due to the audio and the video of every window, interleaved.

    A window's budget is the mean of both modalities' softmax weights, times `audio + video`. Inside a window it is split by each
    modality's weight times its total; a window with one modality gives it the whole budget.
    """
    member = segment == torch.arange(2 * windows, device=segment.device)[:, None]
    size = member.sum(dim=1)
    mean = (member.float() @ scores) / size.clamp(min=1)  # a product: scattered float sums differ from run to run
    weight = (mean.view(windows, 2) / temperature).softmax(dim=0)
    due = weight * torch.tensor([audio, video]).to(weight.device, non_blocking=True) * (size.view(windows, 2) > 0)
    budget = weight.mean(dim=1, keepdim=True) * (audio + video)
    return (budget * due / due.sum(dim=1, keepdim=True).clamp(min=1e-12)).flatten()
