"""SEATS: diverse before, few by few in the middle, nothing late (arXiv 2605.20035; methods.md 4).

Knows: the three stages, their layers, and the window budgets of the middle one. Diversity is `diversity.max_min`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from omnidrop_cli.outputs import Modality
from omnidrop_cli.prune import topk
from omnidrop_cli.prune.base import LayerView, Plan, PromptInfo
from omnidrop_cli.prune.budget import DEFAULT_KEEP
from omnidrop_cli.prune.composition import InputMethod, split_along
from omnidrop_cli.prune.groups import MediaLayout
from omnidrop_cli.prune.method_options import option
from omnidrop_cli.prune.methods.divprune import MostDiverse
from omnidrop_cli.prune.schedule import blend

PAPER_LAYERS = 28
DROPS_AFTER = (16, 18, 20)
LATE_AFTER = 23
"""Layers run before each drop, and before everything goes, of the 28 of the 7B; other depths take the same shares."""

STEPS = (1.0, 1.0 + math.e, 1.0 + math.e + math.e**2)
"""Tokens gone after each drop, as multiples of the first: the drops grow by e ("exp")."""


@dataclass(frozen=True)
class Seats(InputMethod):
    """Stage I keeps `scale` times the target by attention-weighted diversity per chunk; stage II drops thrice by the last token's
    attention, budgets shared over chunks and modalities; stage III removes every audio and video token.

    Scores come from the layer's own queries and keys (the published code projects the layer's output with the same weights). Window
    budgets are rounded to an exact total by `topk.top_by_share`. The mean of a preset counts tokens entering layers, as the paper does;
    `keep` counts them after the cut, as everywhere here. Where keep is so high that late removal cannot reach it, nothing is removed.
    """

    name: ClassVar[str] = "seats"
    summary: ClassVar[str] = "attention-weighted diversity before, three drops inside, text alone at the end"
    paper: ClassVar[str] = "arXiv 2605.20035"
    needs: ClassVar[frozenset[str]] = frozenset({"audio_attention", "video_attention"})
    ratios = ((0.06, 0.35), (0.10, 0.45), (0.20, 0.55), (0.30, 0.65))
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper-35": {"audio_keep": 0.65, "video_keep": 0.30},
        "paper-25": {"audio_keep": 0.55, "video_keep": 0.20},
        "paper-15": {"audio_keep": 0.45, "video_keep": 0.10},
        "paper-10": {"audio_keep": 0.35, "video_keep": 0.06},
    }

    scale: float = option(1.4, "what enters layer 0, over the target", low=1, high=3)
    late: bool = option(True, "remove all audio and video for the last fifth of the layers")
    temperature: float = option(0.1, "softmax temperature of the budgets over windows", above=0)

    def plan(self, prompt: PromptInfo) -> Plan:
        layout, layers = MediaLayout.of(prompt.tokens), prompt.num_layers
        if not layout.total or self.keep == 1:
            return Plan()
        if self.audio_keep is not None and self.video_keep is not None:
            targets = (self.audio_keep, self.video_keep)
            audio, video = (
                _share(self.scale * target, present) for target, present in zip(targets, (layout.audio, layout.video), strict=True)
            )
            target = (targets[0] * layout.audio + targets[1] * layout.video) * layers
            counts = drop_counts(layers, audio + video, round(target), late=self.late, entering=True)
        else:
            keep = DEFAULT_KEEP if self.keep is None else self.keep
            audio, video = self.split_budget(layout, self.entry_budget(layout, layers, keep))
            counts = drop_counts(layers, audio + video, round(keep * layers * layout.total), late=self.late)
        return Plan(
            input_stage=None if audio + video == layout.total else self.make_input_stage(prompt, layout, audio, video),
            in_llm_stage=WindowBudgets(counts, (audio, video), _chunks(prompt), self.temperature),
            metadata={
                "audio_entering": audio,
                "video_entering": video,
                "last_layers": counts[-1],
                "retention_after": round(sum(counts) / (layers * layout.total), 4),
                "retention_entering": round((audio + video + sum(counts[:-1])) / (layers * layout.total), 4),
            },
        )

    def split_budget(self, layout: MediaLayout, total: int) -> tuple[int, int]:
        """Along the published pairs, which are targets: what enters is `scale` times as much of both."""
        scaled = [(min(1.0, self.scale * video), min(1.0, self.scale * audio)) for video, audio in self.ratios]
        return split_along(scaled, layout, total)

    def make_input_stage(self, prompt: PromptInfo, layout: MediaLayout, audio: int, video: int) -> MostDiverse:
        return MostDiverse(audio, video, "chunk", weighted=True)

    def entry_budget(self, layout: MediaLayout, layers: int, keep: float) -> int:
        target = round(keep * layers * layout.total)
        total = min(layout.total, max(min(2, layout.total), round(self.scale * keep * layout.total)))
        if layers == 1:
            return min(layout.total, max(1, target))
        while total > 1 and sum(drop_counts(layers, total, target, late=self.late)) > target + 1:
            total -= 1
        return total

    def make_in_llm_stage(self, prompt: PromptInfo, layout: MediaLayout, entering: tuple[int, int], target: int) -> WindowBudgets:
        counts = drop_counts(prompt.num_layers, sum(entering), target, late=self.late)
        return WindowBudgets(counts, entering, _chunks(prompt), self.temperature)


@lru_cache(maxsize=256)
def drop_counts(layers: int, total: int, target: int, *, late: bool, entering: bool = False) -> tuple[int, ...]:
    """Tokens leaving each layer: level, three drops growing by e, and nothing after the late removal.

    The first drop is solved so that the counts, leaving or `entering` the layers, sum to `target`. Leaving counts meet it to within
    one; entering ones, the paper's convention, to within what one token of the first drop moves.
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
    """Stage II and III: what the last token attends to, window by window (Sec. 3.3; inner_llm_units.py)."""

    counts: tuple[int, ...]
    entering: tuple[int, int]
    chunks: int
    temperature: float

    def keep_count(self, layer: int, alive: int) -> int:
        return min(alive, self.counts[layer])

    def __call__(self, view: LayerView, keep: int) -> Tensor:
        if not keep:
            return torch.empty(0, dtype=torch.int64, device=view.index.device)
        scores = view.attention("last")
        is_video = view.modality == Modality.VIDEO
        if not all(self.entering) or self.chunks == 1:
            segment = is_video.long()
            return topk.top_by_share(scores, segment, topk.on_device(self.entering, segment).float(), keep)
        segment = view.chunk * 2 + is_video
        audio, video = (keep * part / sum(self.entering) for part in self.entering)
        return topk.top_by_share(scores, segment, window_shares(scores, segment, self.chunks, audio, video, self.temperature), keep)


def window_shares(scores: Tensor, segment: Tensor, chunks: int, audio: float, video: float, temperature: float) -> Tensor:
    """(2 * chunks,) tokens due to the audio and the video of every window, interleaved.

    Between windows by the mean of both modalities' softmax weights; inside a window by its weight times the modality's total.
    """
    member = segment == torch.arange(2 * chunks, device=segment.device)[:, None]
    mean = (member.float() @ scores) / member.sum(dim=1).clamp(min=1)  # a product, as scattered float sums differ from run to run
    weight = (mean.view(chunks, 2) / temperature).softmax(dim=0)
    due = weight * torch.tensor([audio, video]).to(weight.device, non_blocking=True)
    budget = weight.mean(dim=1, keepdim=True) * (audio + video)
    return (budget * due / due.sum(dim=1, keepdim=True).clamp(min=1e-12)).flatten()


def _chunks(prompt: PromptInfo) -> int:
    return int(prompt.tokens.chunk.max()) + 1


def _share(share: float, present: int) -> int:
    return min(present, max(min(present, 1), round(share * present)))
