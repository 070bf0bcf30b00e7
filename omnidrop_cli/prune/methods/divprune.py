"""DivPrune: the most diverse tokens, by greedy max-min distance (arXiv 2503.02175)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from omnidrop_cli.outputs import Modality
from omnidrop_cli.prune import diversity, topk
from omnidrop_cli.prune.base import InputView, PromptInfo, Selection
from omnidrop_cli.prune.composition import InputMethod
from omnidrop_cli.prune.groups import AUDIO_WINDOW, MediaLayout, Segments
from omnidrop_cli.prune.method_options import option


@dataclass(frozen=True)
class DivPrune(InputMethod):
    """Selects from audio and video separately: over the whole clip, as published, or in windows of two grids and of 50 audio tokens, as
    SEATS does (arXiv 2605.20035, Sec. 3.2), which costs a fraction of the time.
    """

    name: ClassVar[str] = "divprune"
    summary: ClassVar[str] = "the most diverse tokens before the language model"
    paper: ClassVar[str] = "arXiv 2503.02175"
    ratios = ()

    window: Literal["clip", "chunk"] = option("clip", "diversity over the clip, or in each window of two grids or two seconds of audio")
    time_decay: float = option(
        0.0, "seconds over which similarity decays by e, so that what lasts is kept again; 0: never, as published", low=0, old=("fade",)
    )

    def make_input_stage(self, prompt: PromptInfo, layout: MediaLayout, audio: int, video: int) -> MostDiverse:
        return MostDiverse(audio, video, self.window, time_decay_s=self.time_decay)


@dataclass(frozen=True)
class MostDiverse:
    """Keeps `audio` and `video` tokens far from one another; with `weighted`, distances are multiplied by the encoder's attention.

    With `time_decay_s` above 0, two tokens are less similar the more seconds lie between them: max-min alone keeps a lasting object at a
    single moment, which may not be the moment that a question is about.
    """

    audio: int
    video: int
    window: Literal["clip", "chunk"]
    weighted: bool = False
    time_decay_s: float = 0.0

    def __call__(self, view: InputView) -> Selection:
        return Selection(
            audio=self._of(view, Modality.AUDIO, view.audio, self.audio, view.audio_attention),
            video=self._of(view, Modality.VIDEO, view.video, self.video, view.video_attention),
        )

    def _of(self, view: InputView, modality: Modality, features: Tensor, keep: int, attention: Tensor | None) -> Tensor:
        present = features.shape[0]
        if keep == present:
            return topk.on_device(range(present), features)
        if self.weighted and attention is None:
            raise ValueError(f"{modality.name.lower()} is weighted by the attention of its encoder, and none was given")
        size = AUDIO_WINDOW if modality == Modality.AUDIO else 2 * MediaLayout.of(view.tokens).frame_size
        groups = Segments.windows(present, size if self.window == "chunk" else present)
        when = None
        if self.time_decay_s:
            when = torch.from_numpy(view.tokens.time_s[view.tokens.rows(modality)]).to(features.device) / self.time_decay_s
        return diversity.max_min(features, groups, groups.keep_counts(keep), attention if self.weighted else None, when)
