"""OmniDrop: tokens go layer by layer, guided by the question (arXiv 2605.14458).

Knows: the two stages (a selection per modality at the input, a progressive drop inside) and the choices the paper leaves open, each
an option. Does not know: how counts are settled (`budget.py`), how attention is read (`LayerView`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import Tensor

from omnidrop_cli.errors import UsageError
from omnidrop_cli.outputs import Modality, TokenMap
from omnidrop_cli.prune import budget, topk
from omnidrop_cli.prune.base import SCOPE_HELP, InputView, LayerView, Method, Plan, PromptInfo, Queries, Selection, audio_attention_need
from omnidrop_cli.prune.groups import InputBudget, MediaLayout, Segments
from omnidrop_cli.prune.method_options import check, keep_option, option
from omnidrop_cli.prune.schedule import Schedule, diversity_layer, fit, published


@dataclass(frozen=True)
class OmniDrop(Method):
    """The method as published, at any `keep`.

    Choices where the paper is silent: scores come from layer l's own queries and keys, mean over heads, and the drop follows layer l;
    merging compares temporal grids; audio is ranked over the whole clip; no contextual audio anchors; at least one token survives.
    """

    name: ClassVar[str] = "omnidrop"
    summary: ClassVar[str] = "query-guided, more with depth: the default"
    paper: ClassVar[str] = "arXiv 2605.14458"
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper-30": {"calibration": "paper-30"},
        "paper-20": {"calibration": "paper-20"},
    }

    keep: float | None = keep_option()
    calibration: Literal["solved", "paper-30", "paper-20"] = option("solved", "published schedule constants, or solved for keep")
    audio_keep: float | None = option(None, "share of audio entering layer 0 (paper: 0.7)", above=0, high=1)
    video_keep: float | None = option(None, "share of video entering layer 0 (paper: 0.4)", above=0, high=1)
    p_init: float | None = option(None, "drop rate of the first layers", low=0, high=0.9)
    p_final: float | None = option(None, "drop rate of the last layers", low=0, high=0.9)
    t_mid: float | None = option(None, "depth, as a share, where the drop rate is halfway (paper: 0.5; 3B at 20 %: 0.55)", low=0, high=1)
    beta: float = option(20.0, "steepness of the sigmoid", above=0, high=1000)
    shape: Literal["sigmoid", "exponential"] = option("sigmoid", "drop rate over depth")
    use_plp: bool = option(True, "drop inside the decoder; off: the input selection alone meets keep")
    use_tds: bool = option(True, "temporal diversity in the deeper layers; off: lowest scores go everywhere")
    tds_layer: int | None = option(None, "first layer with temporal diversity (paper: 14 of 28, 19 of 36)", low=0)
    lambda_div: float = option(0.2, "weight of temporal distance", low=0)
    normalise: bool = option(False, "divide scores by their maximum before the distance is added")
    queries: Literal["query", "last", "text"] = option(
        "query", "tokens whose attention scores: question, last prompt token, text after media", alias="rows"
    )
    ttm_frames: Literal["grids", "halves"] = option("grids", "unit of merging: temporal grids, or their halves as in OmniZip's code")
    audio_ranking: Literal["clip", "chunk"] = option("clip", "rank audio over the clip, or keep the same share of every chunk")
    audio_scope: Literal["window", "clip"] = option("clip", SCOPE_HELP)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({audio_attention_need(self.audio_scope)})

    def __post_init__(self) -> None:
        check(self)
        if self.calibration != "solved" and self.keep is not None:
            raise UsageError(f"calibration={self.calibration} fixes the budget, and so does keep", "give one of them")

    def plan(self, prompt: PromptInfo) -> Plan:
        layout = MediaLayout.of(prompt.tokens, halves=self.ttm_frames == "halves")
        if not layout.total or self.keep == 1:
            return Plan()
        settled = self.budget(layout, prompt.num_layers)
        inside = self._query_guided(prompt, settled.keep_counts)
        return Plan(
            input_stage=IntraModality(settled.input, layout, self.audio_ranking),
            in_llm_stage=inside,
            metadata={**settled.metadata(layout), "tds_layer": inside.tds_layer, "queries": inside.queries},
        )

    def split_budget(self, layout: MediaLayout, total: int) -> tuple[int, int]:
        """As part of a composition: both rates in the paper's proportion."""
        settled = budget.input_only(layout, 1, total / layout.total, self.audio_keep, self.video_keep).input
        return settled.audio, settled.total - settled.audio

    def make_input_stage(self, prompt: PromptInfo, layout: MediaLayout, audio: int, video: int) -> IntraModality:
        layout = MediaLayout.of(prompt.tokens, halves=self.ttm_frames == "halves")
        return IntraModality(InputBudget.of_counts(layout, audio, video), layout, self.audio_ranking)

    def entry_budget(self, layout: MediaLayout, layers: int, keep: float) -> int:
        return replace(self, keep=keep).budget(layout, layers).input.total

    def make_in_llm_stage(self, prompt: PromptInfo, layout: MediaLayout, entering: tuple[int, int], target: int) -> QueryGuided:
        keep = target / (prompt.num_layers * layout.total)
        schedule = Schedule(prompt.num_layers, t_mid=0.5 if self.t_mid is None else self.t_mid, beta=self.beta, shape=self.shape)
        schedule = replace(schedule, p_init=budget.default_p_init(keep, schedule) if self.p_init is None else self.p_init)
        return self._query_guided(prompt, fit(schedule, sum(entering), target)[1])

    def _query_guided(self, prompt: PromptInfo, keep_counts: tuple[int, ...]) -> QueryGuided:
        layers = prompt.num_layers
        tds_layer = diversity_layer(layers) if self.tds_layer is None else self.tds_layer
        queries = usable_queries(prompt.tokens, self.queries)
        return QueryGuided(keep_counts, queries, tds_layer if self.use_tds else layers, self.lambda_div, self.normalise)

    def budget(self, layout: MediaLayout, layers: int) -> budget.Budget:
        """Counts for one prompt: the published constants as they are, or solved for `keep`."""
        if not self.use_plp:
            return budget.input_only(layout, layers, self._wanted, self.audio_keep, self.video_keep)
        t_mid = 0.5 if self.t_mid is None else self.t_mid
        schedule = Schedule(layers, t_mid=t_mid, beta=self.beta, shape=self.shape)
        if self.calibration == "solved" and (self.keep is not None or self.p_final is None):
            return budget.solve(
                layout,
                schedule,
                self._wanted,
                p_init=self.p_init,
                p_final=self.p_final,
                audio_keep=self.audio_keep,
                video_keep=self.video_keep,
            )
        if self.calibration != "solved":
            constants = published(self.calibration, layers)
            t_mid = constants.t_mid if self.t_mid is None else self.t_mid
            schedule = replace(schedule, p_init=constants.p_init, p_final=constants.p_final, t_mid=t_mid)
        schedule = replace(
            schedule,
            p_init=schedule.p_init if self.p_init is None else self.p_init,
            p_final=schedule.p_final if self.p_final is None else self.p_final,
        )
        return budget.from_schedule(layout, schedule, self.audio_keep, self.video_keep)

    @property
    def _wanted(self) -> float:
        return budget.DEFAULT_KEEP if self.keep is None else self.keep


@dataclass(frozen=True)
class IntraModality:
    """What enters layer 0 (Sec. 3.4): audio by the encoder's attention, video by temporal merging."""

    counts: InputBudget
    layout: MediaLayout
    audio_ranking: Literal["clip", "chunk"] = "clip"

    def __call__(self, view: InputView) -> Selection:
        return Selection(audio=self._audio(view), video=self._video(view))

    def _audio(self, view: InputView) -> Tensor:
        present = view.audio.shape[0]
        if self.counts.audio == present:
            return topk.on_device(range(present), view.audio)
        if view.audio_attention is None:
            raise ValueError("audio is ranked by the attention of its encoder, and none was given")
        if self.audio_ranking == "clip":
            return topk.top(view.audio_attention, self.counts.audio)
        segments = Segments.of_chunks(view.tokens, Modality.AUDIO)
        number = topk.on_device(segments.number, view.audio)
        return topk.top_within(view.audio_attention, number, segments.keep_counts(self.counts.audio))

    def _video(self, view: InputView) -> Tensor:
        present = view.video.shape[0]
        if sum(self.counts.video) == present:
            return topk.on_device(range(present), view.video)
        return topk.temporally_merged(view.video, self.layout.frame_size, self.counts.video)


@dataclass(frozen=True)
class QueryGuided:
    """What leaves each layer (Sec. 3.1-3.3): the least attended go, from `tds_layer` on by temporal diversity."""

    keep_counts: tuple[int, ...]
    queries: Queries
    tds_layer: int
    lambda_div: float
    normalise: bool

    def keep_count(self, layer: int, alive: int) -> int:
        return min(alive, self.keep_counts[layer])

    def __call__(self, view: LayerView, keep: int) -> Tensor:
        scores = view.attention(self.queries)
        if view.layer < self.tds_layer:
            return topk.top(scores, keep)
        return topk.diverse(scores, view.chunk, keep, weight=self.lambda_div, normalise=self.normalise)


def usable_queries(tokens: TokenMap, queries: Queries) -> Queries:
    """`queries`, or "last" where the question has no token after the media: rows before them cannot attend to them."""
    media = (tokens.modality != Modality.TEXT).nonzero()[0]
    asking = tokens.is_query.nonzero()[0]
    if queries == "query" and (not len(asking) or asking[-1] < media[-1]):
        return "last"
    return queries
