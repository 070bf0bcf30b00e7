"""OmniDrop: tokens are dropped layer by layer, guided by the question (arXiv 2605.14458).

Token budgets come from `budget.py`, attention from `LayerView`. What the paper leaves open is an option.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from omnidrop_cli.errors import UsageError
from omnidrop_cli.jsonl import parse_json
from omnidrop_cli.outputs import Modality, TokenMap
from omnidrop_cli.prune import budget, topk
from omnidrop_cli.prune.base import (
    SCOPE_HELP,
    InputStage,
    InputView,
    LayerView,
    Method,
    Plan,
    PromptInfo,
    Queries,
    Selection,
    audio_attention_need,
)
from omnidrop_cli.prune.composition import split_along
from omnidrop_cli.prune.groups import InputBudget, MediaLayout, Segments
from omnidrop_cli.prune.method_options import check, keep_option, option
from omnidrop_cli.prune.methods.divprune import MostDiverse
from omnidrop_cli.prune.schedule import Schedule, diversity_layer, fit, published

MIN_GRID_TOKENS = 64
"""Tokens of a temporal grid from which the paper's input stage runs by default: half of what Qwen's smallest frame gives (128)."""

QWEN_ENCODER_WIDTHS = (1280, 1280)
"""Hidden sizes of Qwen2.5-Omni's audio and vision encoders, 3B and 7B."""

TIME_DECAY_S = 4.0
"""Seconds over which similarity decays by e in the diverse input stage, as in OmniBlend."""


@dataclass(frozen=True)
class OmniDrop(Method):
    """The method as published, at any `keep`.

    Choices where the paper is silent: scores come from layer l's own queries and keys, mean over heads, and the drop follows layer l;
    merging compares temporal grids; audio is ranked over the whole clip; no contextual audio tokens; at least one token survives.

    `input_stage=auto` runs the paper's input stage (Sec. 3.4) where it was made for: grids of at least `MIN_GRID_TOKENS` tokens, and
    encoders as wide as Qwen's. Elsewhere temporal merging keeps one or two tokens of a grid and the encoder's attention need not follow
    speech, so the most diverse tokens enter instead (`divprune:time_decay=4`), as many of them. The presets are the paper's.
    """

    name: ClassVar[str] = "omnidrop"
    summary: ClassVar[str] = "query-guided, more with depth: the default"
    paper: ClassVar[str] = "arXiv 2605.14458"
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper-30": {"calibration": "paper-30", "input_stage": "paper"},
        "paper-20": {"calibration": "paper-20", "input_stage": "paper"},
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
        "query", "tokens whose attention scores: question, last prompt token, text after media", old=("rows",)
    )
    ttm_frames: Literal["grids", "halves"] = option("grids", "unit of merging: temporal grids, or their halves as in OmniZip's code")
    input_stage: Literal["auto", "paper", "diverse"] = option(
        "auto", "what enters: the paper's selection, the most diverse tokens, or whichever suits the clip and the model"
    )
    modality: Literal["joint", "quota"] = option(
        "joint", "audio and video ranked together in every layer, or each within its share of what entered"
    )
    audio_ranking: Literal["clip", "chunk"] = option("clip", "rank audio over the clip, or keep the same share of every chunk")
    audio_scope: Literal["window", "clip"] = option("clip", SCOPE_HELP)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset() if self.input_stage == "diverse" else frozenset({audio_attention_need(self.audio_scope)})

    def __post_init__(self) -> None:
        check(self)
        if self.calibration != "solved" and self.keep is not None:
            raise UsageError(f"calibration={self.calibration} fixes the budget, and so does keep", "give one of them")

    def plan(self, prompt: PromptInfo) -> Plan:
        layout = MediaLayout.of(prompt.tokens, halves=self.ttm_frames == "halves")
        if not layout.total or self.keep == 1:
            return Plan()
        solved = self.budget(layout, prompt.num_layers)
        kind, reason = self._input_kind(prompt)
        counts = (solved.input.audio, sum(solved.input.video))
        if kind == "diverse":
            counts = split_along((), layout, solved.input.total)
        inner = self._query_guided(prompt, counts, solved.keep_counts)
        return Plan(
            input_stage=diverse_input(*counts) if kind == "diverse" else IntraModality(solved.input, layout, self.audio_ranking),
            in_llm_stage=inner,
            metadata={
                **solved.metadata(layout),
                "tds_layer": inner.tds_layer,
                "queries": inner.queries,
                "input_stage": kind,
                "input_stage_reason": reason,
            },
        )

    def _input_kind(self, prompt: PromptInfo) -> tuple[Literal["paper", "diverse"], str]:
        """Which input stage runs, and why."""
        if self.input_stage != "auto":
            return self.input_stage, "as asked"
        grid = MediaLayout.of(prompt.tokens).frame_size
        if grid and grid < MIN_GRID_TOKENS:
            return "diverse", f"{grid} tokens a grid, under {MIN_GRID_TOKENS}"
        if prompt.checkpoint is not None and not has_qwen_encoders(prompt.checkpoint):
            return "diverse", "not Qwen's own encoders"
        return "paper", "Qwen's encoders" + (f", {grid} tokens a grid" if grid else "")

    def split_budget(self, layout: MediaLayout, total: int) -> tuple[int, int]:
        """As part of a composition: both rates in the paper's proportion."""
        settled = budget.input_only(layout, 1, total / layout.total, self.audio_keep, self.video_keep).input
        return settled.audio, settled.total - settled.audio

    def make_input_stage(self, prompt: PromptInfo, layout: MediaLayout, audio: int, video: int) -> InputStage:
        if self._input_kind(prompt)[0] == "diverse":
            return diverse_input(audio, video)
        layout = MediaLayout.of(prompt.tokens, halves=self.ttm_frames == "halves")
        return IntraModality(InputBudget.of_counts(layout, audio, video), layout, self.audio_ranking)

    def entry_budget(self, layout: MediaLayout, layers: int, keep: float) -> int:
        return replace(self, keep=keep).budget(layout, layers).input.total

    def make_in_llm_stage(self, prompt: PromptInfo, layout: MediaLayout, entering: tuple[int, int], target: int) -> QueryGuided:
        keep = target / (prompt.num_layers * layout.total)
        schedule = Schedule(prompt.num_layers, t_mid=0.5 if self.t_mid is None else self.t_mid, beta=self.beta, shape=self.shape)
        schedule = replace(schedule, p_init=budget.default_p_init(keep, schedule) if self.p_init is None else self.p_init)
        return self._query_guided(prompt, entering, fit(schedule, sum(entering), target)[1])

    def _query_guided(self, prompt: PromptInfo, entering: tuple[int, int], keep_counts: tuple[int, ...]) -> QueryGuided:
        layers = prompt.num_layers
        tds_layer = diversity_layer(layers) if self.tds_layer is None else self.tds_layer
        queries = usable_queries(prompt.tokens, self.queries)
        audio_counts = modality_counts(entering, keep_counts) if self.modality == "quota" and all(entering) else None
        tds_layer = tds_layer if self.use_tds else layers
        return QueryGuided(keep_counts, queries, tds_layer, self.lambda_div, self.normalise, entering, audio_counts)

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
    """What leaves each layer (Sec. 3.1-3.3): the least attended tokens go, from `tds_layer` on by temporal diversity.

    Attributes:
        keep_counts: tokens leaving each layer.
        queries: text tokens whose attention scores.
        tds_layer: first layer with temporal diversity.
        lambda_div: weight of temporal distance.
        normalise: divide scores by their maximum before the distance is added.
        entering: (audio, video) tokens that enter layer 0.
        audio_counts: audio tokens among `keep_counts`, where each modality has a budget of its own; None ranks them together.
    """

    keep_counts: tuple[int, ...]
    queries: Queries
    tds_layer: int
    lambda_div: float
    normalise: bool
    entering: tuple[int, int] = (0, 0)
    audio_counts: tuple[int, ...] | None = None

    def keep_count(self, layer: int, alive: int) -> int:
        return min(alive, self.keep_counts[layer])

    def __call__(self, view: LayerView, keep: int) -> Tensor:
        scores = view.attention(self.queries)
        if self.audio_counts is None:
            return self._keep(view.layer, scores, view.chunk, keep)
        layer, audio = view.layer, self.audio_counts
        alive_audio = audio[layer - 1] if layer else self.entering[0]
        alive = {Modality.AUDIO: alive_audio, Modality.VIDEO: scores.shape[0] - alive_audio}
        kept = {Modality.AUDIO: audio[layer], Modality.VIDEO: keep - audio[layer]}
        chosen = []
        for modality, count in kept.items():
            of_modality = topk.true_indices(view.modality == modality, alive[modality])
            if count < alive[modality]:
                of_modality = of_modality[self._keep(layer, scores[of_modality], view.chunk[of_modality], count)]
            chosen.append(of_modality)
        return torch.cat(chosen)

    def _keep(self, layer: int, scores: Tensor, chunk: Tensor, keep: int) -> Tensor:
        """(keep,) indices into `scores`, in any order."""
        if layer < self.tds_layer or not keep:
            return topk.highest(scores, keep)
        return topk.diverse(scores, chunk, keep, weight=self.lambda_div, normalise=self.normalise)


def modality_counts(entering: tuple[int, int], keep_counts: tuple[int, ...]) -> tuple[int, ...]:
    """Audio tokens leaving each layer when both modalities shrink in proportion: neither count ever rises."""
    audio, video = entering
    share = audio / (audio + video)
    counts = []
    for keep in keep_counts:
        audio = min(audio, max(keep - video, round(keep * share)))
        video = keep - audio
        counts.append(audio)
    return tuple(counts)


def diverse_input(audio: int, video: int) -> MostDiverse:
    """The most diverse tokens of the clip, where similarity decays over `TIME_DECAY_S` seconds."""
    return MostDiverse(audio, video, "clip", time_decay_s=TIME_DECAY_S)


@cache
def has_qwen_encoders(checkpoint: Path) -> bool:
    """Whether both encoders of a checkpoint are as wide as Qwen2.5-Omni's. True where its configuration cannot be read."""
    try:
        config = parse_json((checkpoint / "config.json").read_text(encoding="utf-8"))
        config = config.get("thinker_config", config)
        return (config["audio_config"]["d_model"], config["vision_config"]["hidden_size"]) == QWEN_ENCODER_WIDTHS
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return True


def usable_queries(tokens: TokenMap, queries: Queries) -> Queries:
    """`queries`, or "last" where the question has no token after the media: tokens before them cannot attend to them."""
    media = (tokens.modality != Modality.TEXT).nonzero()[0]
    asking = tokens.is_query.nonzero()[0]
    if queries == "query" and (not len(asking) or asking[-1] < media[-1]):
        return "last"
    return queries
