"""Two methods as one: the input stage of the first, the in-LLM stage of the second, one mean retention for both (`seats+omnidrop`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

from omnidrop_cli.errors import UsageError
from omnidrop_cli.prune.base import Method, Plan, PromptInfo
from omnidrop_cli.prune.budget import DEFAULT_KEEP
from omnidrop_cli.prune.composition import HasInLLMStage, HasInputStage, InputMethod, layer_sum, two_stage_plan
from omnidrop_cli.prune.groups import MediaLayout
from omnidrop_cli.prune.method_options import check, keep_option


@dataclass(frozen=True)
class Composition(Method):
    """The second method sets how many tokens enter for a mean of `keep`, the first selects them, the second drops the rest.

    So as many tokens enter `x+omnidrop` as `omnidrop` (1.5 times `keep`, or what the paper's 70 % and 40 % give); only which differs.
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
        entering = first.split_budget(layout, second.entry_budget(layout, layers, keep))
        stage = second.make_in_llm_stage(prompt, layout, entering, layer_sum(layout, layers, keep))
        return two_stage_plan(prompt, layout, entering, first.make_input_stage, stage)

    def describe(self) -> dict[str, object]:
        return {"keep": self.keep, self.first.name: asdict(self.first), self.second.name: asdict(self.second)}  # type: ignore[call-overload]


def _own_budget(part: Method) -> Iterator[str]:
    """Options by which a part would fix a budget that is the composition's. OmniDrop's input shares only say where it starts."""
    names = {"ratio", "p_final", "calibration"} | ({"audio_keep", "video_keep"} if isinstance(part, InputMethod) else set())
    for field in fields(part):  # type: ignore[arg-type]  # every method is a dataclass
        if field.name in names and getattr(part, field.name) != field.default:
            yield field.name
