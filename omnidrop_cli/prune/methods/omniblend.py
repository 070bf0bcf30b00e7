"""OmniBlend: the most diverse tokens enter, SEATS' drops follow inside the decoder (ours).

The evidence, all of it from the nano model, is in docs/concepts/methods.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from omnidrop_cli.prune.base import Method, Plan, PromptInfo
from omnidrop_cli.prune.method_options import check, keep_option, option
from omnidrop_cli.prune.methods.compose import Composition
from omnidrop_cli.prune.methods.divprune import DivPrune
from omnidrop_cli.prune.methods.seats import Seats


@dataclass(frozen=True)
class OmniBlend(Method):
    """`divprune+seats:time_decay=4` under a name of its own: the composition with the highest accuracy on the nano benchmark.

    Similarity that decays with time keeps a lasting object every few seconds, so that it is present for what happens meanwhile. The
    input stage uses neither the question nor attention, so it does not depend on early layers that have not processed the question yet.
    """

    name: ClassVar[str] = "omniblend"
    summary: ClassVar[str] = "diverse input, then three drops inside: best on nano, untried elsewhere"
    paper: ClassVar[str] = ""

    keep: float | None = keep_option()
    window: Literal["clip", "chunk"] = option("clip", "diversity over the clip, or in each window of two grids or two seconds of audio")
    time_decay: float = option(
        4.0, "seconds over which similarity decays by e, so that what lasts is kept again; 0: never", low=0, old=("fade",)
    )

    def __post_init__(self) -> None:
        check(self)

    def plan(self, prompt: PromptInfo) -> Plan:
        return Composition(DivPrune(window=self.window, time_decay=self.time_decay), Seats(), self.keep).plan(prompt)
