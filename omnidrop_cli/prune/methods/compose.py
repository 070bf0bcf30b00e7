"""Two methods as one: the choice at the input of the first, the drop inside the decoder of the second (`seats+omnidrop`).

Knows: how one mean is shared between the two. Does not know: any selection rule, nor which methods there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

from omnidrop_cli.errors import UsageError
from omnidrop_cli.prune.base import Method, Plan, PromptInfo
from omnidrop_cli.prune.budget import DEFAULT_KEEP
from omnidrop_cli.prune.composition import HasInLLMStage, HasInputStage, InputMethod
from omnidrop_cli.prune.groups import MediaLayout
from omnidrop_cli.prune.method_options import check, keep_option


@dataclass(frozen=True)
class Composition(Method):
    """The second method says how many tokens should enter for a mean of `keep`, the first chooses them, the second drops the rest.

    So `x+omnidrop` opens as `omnidrop` does (1.5 F, or what the paper's 70 % and 40 % give), and only the choice differs.
    """

    first: Method
    second: Method
    keep: float | None = keep_option()

    def __post_init__(self) -> None:
        check(self)
        if not isinstance(self.first, HasInputStage):
            raise UsageError(f"method {self.first.name} chooses nothing before the language model", "it can stand after the + only")
        if not isinstance(self.second, HasInLLMStage):
            raise UsageError(f"method {self.second.name} drops nothing inside the decoder", "it can stand before the + only")
        for part in (self.first, self.second):
            for name in _own_budget(part):
                raise UsageError(f"{part.name} cannot set {name} in a composition: `keep` shares the budget", "leave it out")

    @property
    def name(self) -> str:  # type: ignore[override]  # a class variable elsewhere; here it depends on the parts
        return f"{self.first.name}+{self.second.name}"

    @property
    def needs(self) -> frozenset[str]:
        return self.first.needs

    def plan(self, prompt: PromptInfo) -> Plan:
        layout, layers = MediaLayout.of(prompt.tokens), prompt.num_layers
        if not layout.total or self.keep == 1:
            return Plan()
        first, second = self.first, self.second
        if not isinstance(first, HasInputStage) or not isinstance(second, HasInLLMStage):
            raise TypeError("checked when made")
        keep = DEFAULT_KEEP if self.keep is None else self.keep
        audio, video = first.split_budget(layout, second.entry_budget(layout, layers, keep))
        target = max(1, round(keep * layers * layout.total))
        return Plan(
            input_stage=None if audio + video == layout.total else first.make_input_stage(prompt, layout, audio, video),
            in_llm_stage=second.make_in_llm_stage(prompt, layout, (audio, video), target),
            metadata={"audio_entering": audio, "video_entering": video},
        )

    def describe(self) -> dict[str, object]:
        return {"keep": self.keep, self.first.name: asdict(self.first), self.second.name: asdict(self.second)}  # type: ignore[call-overload]


def _own_budget(part: Method) -> Iterator[str]:
    """Options by which a part would fix a budget that is the composition's. OmniDrop's input shares only say where it starts."""
    names = {"ratio", "p_final", "calibration"} | ({"audio_keep", "video_keep"} if isinstance(part, InputMethod) else set())
    for field in fields(part):  # type: ignore[arg-type]  # every method is a dataclass
        if field.name in names and getattr(part, field.name) != field.default:
            yield field.name
