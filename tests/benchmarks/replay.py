"""A method that repeats a recorded selection without computing any score, to measure what the recorded method's decisions cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from omnidrop_cli.outputs import Modality
from omnidrop_cli.prune.base import InputView, LayerView, Method, Plan, PromptInfo, Selection

if TYPE_CHECKING:
    from omnidrop_cli.outputs import Trace


@dataclass(frozen=True, eq=False)
class Replay(Method):
    """The selection of `trace`, made again on the same prompt."""

    name = "replay"
    summary = "repeats a recorded selection"

    trace: Trace
    device: torch.device

    def plan(self, prompt: PromptInfo) -> Plan:
        modality = prompt.tokens.modality
        media = [torch.as_tensor(kept[modality[kept] != Modality.TEXT]).to(self.device) for kept in self.trace.kept]
        before = None
        if self.trace.entering[0].media < self.trace.prompt.media:
            audio = torch.as_tensor(prompt.tokens.rows(Modality.AUDIO)).to(self.device)
            video = torch.as_tensor(prompt.tokens.rows(Modality.VIDEO)).to(self.device)
            selection = Selection(*(torch.isin(rows, media[0]).nonzero()[:, 0] for rows in (audio, video)))
            before = _Always(selection)
        return Plan(input_stage=before, in_llm_stage=_Recorded(media))


@dataclass(frozen=True, slots=True)
class _Always:
    selection: Selection

    def __call__(self, view: InputView) -> Selection:
        return self.selection


@dataclass(frozen=True, slots=True)
class _Recorded:
    media: list[Tensor]

    def keep_count(self, layer: int, alive: int) -> int:
        return len(self.media[layer + 1])

    def __call__(self, view: LayerView, keep: int) -> Tensor:
        return torch.searchsorted(view.index, self.media[view.layer + 1])
