"""DyCoke: temporal merging of video tokens before the language model (arXiv 2411.15024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from omnidrop_cli.prune import topk
from omnidrop_cli.prune.base import InputView, PromptInfo, Selection
from omnidrop_cli.prune.composition import InputMethod
from omnidrop_cli.prune.groups import InputBudget, MediaLayout, temporal_merge_counts
from omnidrop_cli.prune.method_options import option

AUDIO_FRAME = 25
"""Audio tokens per second. A second of audio is a frame where audio is merged."""


@dataclass(frozen=True)
class DyCoke(InputMethod):
    """Groups of four temporal grids: the first is kept whole, of the others the tokens that changed (Sec. 3.2).

    The paper has no audio. Comparisons give audio the same ratio by the same rule, second by second ("V&A" in OmniZip's tables), or
    keep it whole (SEATS' tables), here as far as the budget allows. `video_keep` is the ratio of a whole group: 0.475 keeps the first
    grid and 30 % of the others, also where the last group is shorter. Below 25 % the first grids are thinned as well. The code drops an
    odd last frame and keeps frame 2 of the last group whole; neither follows from the paper, and neither is done here.
    """

    name: ClassVar[str] = "dycoke"
    summary: ClassVar[str] = "temporal merging of video (and sound) before the language model"
    paper: ClassVar[str] = "arXiv 2411.15024"
    ratios = ()
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper": {"audio_keep": 1.0, "video_keep": 0.475},
        "omnisift-35": {"audio_keep": 0.6, "video_keep": 0.325},
        "omnisift-25": {"audio_keep": 0.4, "video_keep": 0.2575},
        "seats-35": {"audio_keep": 1.0, "video_keep": 0.24},
    }

    audio: Literal["merge", "keep"] = option("merge", "audio merged like video, or kept whole as far as the budget allows")

    def counts(self, layout: MediaLayout) -> tuple[int, int]:
        """See `InputMethod.counts`. Explicit ratios are those of whole groups, so short clips keep their first grid."""
        audio, video = super().counts(layout)
        if self.video_keep is not None and self.video_keep > 0 and video:
            video = sum(InputBudget.of_ratios(layout, 1.0, self.video_keep).video)
        return audio, video

    def split_budget(self, layout: MediaLayout, total: int) -> tuple[int, int]:
        if self.audio == "merge" or not layout.video:
            return super().split_budget(layout, total)
        audio = max(total - layout.video, min(layout.audio, total - 1)) if total > 1 else min(layout.audio, total)
        return audio, total - audio

    def make_input_stage(self, prompt: PromptInfo, layout: MediaLayout, audio: int, video: int) -> Merging:
        return Merging(InputBudget.of_counts(layout, audio, video), layout)


@dataclass(frozen=True)
class Merging:
    """Keeps the tokens least similar to their reference frame, in both modalities."""

    counts: InputBudget
    layout: MediaLayout

    def __call__(self, view: InputView) -> Selection:
        video = torch.empty(0, dtype=torch.int64, device=view.audio.device)
        if self.layout.video:
            video = topk.temporally_merged(view.video, self.layout.frame_size, self.counts.video)
        return Selection(audio=self._audio(view.audio), video=video)

    def _audio(self, audio: Tensor) -> Tensor:
        """(audio,) ascending indices, by the rule for video with seconds as frames; the last second may be short."""
        present = audio.shape[0]
        if self.counts.audio == present:
            return torch.arange(present, device=audio.device)
        seconds = -(-present // AUDIO_FRAME)
        padded = torch.cat((audio, audio.new_zeros(seconds * AUDIO_FRAME - present, audio.shape[1])))
        # Padding never competes with tokens: it is cut off before the seconds, each with its own keep count, are ranked.
        similarity = topk.similarity_to(padded, AUDIO_FRAME, topk.merge_references(seconds)).flatten()[:present]
        sizes = [min(AUDIO_FRAME, present - second * AUDIO_FRAME) for second in range(seconds)]
        second = torch.arange(present, device=audio.device) // AUDIO_FRAME
        return topk.top_within(-similarity, second, temporal_merge_counts(sizes, self.counts.audio))
