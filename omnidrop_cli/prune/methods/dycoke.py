"""DyCoke: temporal merging of video tokens before the language model (arXiv 2411.15024; methods.md 5).

Knows: the merging budgets of video, and of sound where it is merged too. The rule itself is `topk.temporally_merged`.
"""

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
"""Audio tokens per second; a second of sound stands for a frame where sound is merged."""


@dataclass(frozen=True)
class DyCoke(InputMethod):
    """Groups of four temporal grids: the first whole, of the others what changed.

    The paper knows no sound. Comparisons give sound the same share by the same rule, second by second ("V&A" in OmniZip's tables), or
    leave it whole (SEATS'), here as long as the budget allows. Below 25 % the anchors are thinned as well.
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

    audio: Literal["merge", "keep"] = option("merge", "sound merged like video, or left whole while the budget allows")

    def split_budget(self, layout: MediaLayout, total: int) -> tuple[int, int]:
        if self.audio == "merge" or not layout.video:
            return super().split_budget(layout, total)
        audio = max(total - layout.video, min(layout.audio, total - 1)) if total > 1 else min(layout.audio, total)
        return audio, total - audio

    def make_input_stage(self, prompt: PromptInfo, layout: MediaLayout, audio: int, video: int) -> Merging:
        return Merging(InputBudget.of_counts(layout, audio, video), layout)


@dataclass(frozen=True)
class Merging:
    """Keeps what differs from the reference frame, in both modalities."""

    counts: InputBudget
    layout: MediaLayout

    def __call__(self, view: InputView) -> Selection:
        video = torch.empty(0, dtype=torch.int64, device=view.audio.device)
        if self.layout.video:
            video = topk.temporally_merged(view.video, self.layout.frame_size, self.counts.video)
        return Selection(audio=self._audio(view.audio), video=video)

    def _audio(self, audio: Tensor) -> Tensor:
        """As for video, with seconds as frames; the last second may be short."""
        present = audio.shape[0]
        if self.counts.audio == present:
            return torch.arange(present, device=audio.device)
        seconds = -(-present // AUDIO_FRAME)
        padded = torch.cat((audio, audio.new_zeros(seconds * AUDIO_FRAME - present, audio.shape[1])))
        # Zeros are like nothing, so the padding would be kept first: it never competes, as each second has its own keep count.
        similarity = topk.similarity_to(padded, AUDIO_FRAME, topk.merge_references(seconds)).flatten()[:present]
        sizes = [min(AUDIO_FRAME, present - second * AUDIO_FRAME) for second in range(seconds)]
        second = torch.arange(present, device=audio.device) // AUDIO_FRAME
        return topk.top_within(-similarity, second, temporal_merge_counts(sizes, self.counts.audio))
