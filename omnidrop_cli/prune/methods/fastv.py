"""FastV: one cut after an early layer, by the last token's attention (arXiv 2403.06764).

The original ranks image tokens; here audio and video are ranked together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from omnidrop_cli.errors import UsageError
from omnidrop_cli.prune import topk
from omnidrop_cli.prune.base import LayerView, Method, Plan, PromptInfo, Queries
from omnidrop_cli.prune.budget import DEFAULT_KEEP
from omnidrop_cli.prune.composition import default_entry_budget
from omnidrop_cli.prune.groups import MediaLayout
from omnidrop_cli.prune.method_options import check, keep_option, option


@dataclass(frozen=True)
class FastV(Method):
    """Layers before `layer` see everything, the rest a fixed share: F = ((K - 1) + (L - K + 1) * ratio) / L after the cut.

    Where `keep` is too small for that, the cut comes earlier, down to the first layer.
    """

    name: ClassVar[str] = "fastv"
    summary: ClassVar[str] = "one cut by the last token's attention after an early layer"
    paper: ClassVar[str] = "arXiv 2403.06764"
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper-50": {"ratio": 0.5},
        "omnizip-50": {"ratio": 0.5, "layer": 5},
        "omnizip-35": {"ratio": 0.35, "layer": 5},
    }

    keep: float | None = keep_option()
    ratio: float | None = option(None, "share kept by the later layers, instead of keep", above=0, high=1)
    layer: int = option(2, "layers that see everything (K; OmniZip's comparison used 5)", low=1)
    queries: Literal["query", "last", "text"] = option(
        "last", "tokens whose attention scores: question, last prompt token, text after media", old=("rows",)
    )

    def __post_init__(self) -> None:
        check(self)
        if self.keep is not None and self.ratio is not None:
            raise UsageError("keep and ratio both set the budget", "give one of them")

    def plan(self, prompt: PromptInfo) -> Plan:
        layout = MediaLayout.of(prompt.tokens)
        if not layout.total or self.keep == 1:
            return Plan()
        if self.ratio is None:
            target = round((DEFAULT_KEEP if self.keep is None else self.keep) * prompt.num_layers * layout.total)
            stage = self.make_in_llm_stage(prompt, layout, (layout.audio, layout.video), target)
        else:
            cut = min(self.layer, prompt.num_layers - 1)
            stage = OneCut(cut - 1, max(1, round(self.ratio * layout.total)), self.queries)
        return Plan(in_llm_stage=stage, metadata={"layer": stage.after + 1, "kept": stage.survivors})

    def entry_budget(self, layout: MediaLayout, layers: int, keep: float) -> int:
        return default_entry_budget(layout, keep)

    def make_in_llm_stage(self, prompt: PromptInfo, layout: MediaLayout, entering: tuple[int, int], target: int) -> OneCut:
        layers, alive = prompt.num_layers, sum(entering)
        cut = max(1, min(self.layer, layers - 1))
        while cut > 1 and (cut - 1) * alive + (layers - cut + 1) > target:
            cut -= 1
        survivors = round((target - (cut - 1) * alive) / (layers - cut + 1))
        return OneCut(cut - 1, min(alive, max(1, survivors)), self.queries)


@dataclass(frozen=True)
class OneCut:
    """Keeps the `survivors` best attended after layer `after`."""

    after: int
    survivors: int
    queries: Queries

    def keep_count(self, layer: int, alive: int) -> int:
        return min(alive, self.survivors) if layer == self.after else alive

    def __call__(self, view: LayerView, keep: int) -> Tensor:
        return topk.highest(view.attention(self.queries), keep)
