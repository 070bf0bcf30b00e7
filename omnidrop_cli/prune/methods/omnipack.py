"""OmniPack: salient tokens and cluster centres merge the rest before the decoder; one query-guided cut inside (arXiv 2608.03812)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from omnidrop_cli.outputs import Modality, TokenMap
from omnidrop_cli.prune import packing, topk
from omnidrop_cli.prune.base import InputView, LayerSelection, LayerView, PromptInfo, Selection
from omnidrop_cli.prune.composition import TwoStageMethod, paper_ratios
from omnidrop_cli.prune.cosines import Directions
from omnidrop_cli.prune.groups import MediaLayout
from omnidrop_cli.prune.method_options import option

SCALE = 2.0
"""Tokens that enter layer 0, as a multiple of those that remain after the cut."""

BIAS_WEIGHT, CURVATURE_WEIGHT, NOVELTY_WEIGHT = 0.35, 0.35, 0.25
DOMINANT = {Modality.VIDEO: 0.25, Modality.AUDIO: 0.35}
COORDINATE_WEIGHT = {Modality.VIDEO: 0.10, Modality.AUDIO: 0.05}
CENTRE = {Modality.VIDEO: 0.62, Modality.AUDIO: 0.65}


@dataclass(frozen=True)
class OmniPack(TwoStageMethod):
    """Stage I, per modality over the clip: a quarter of the video budget (35 % of audio) goes to the most salient tokens, the rest to
    density peaks; dropped tokens are merged into the kept ones. Stage II, once after layer 18 of 28: half of them stay, by relevance to
    the text and to the other modality and by max-min diversity, and merge the others.

    Paper and code differ: the code multiplies the cues of salience, the paper adds them (`cues`); in the code a kept token is 62 to 65 %
    itself after merging, in the paper the mean of its cluster (`centre=0`). The code also cuts the caches of the layers before the cut;
    here every layer's cache keeps what the layer saw. The ratios of a preset are those after the cut.
    """

    name: ClassVar[str] = "omnipack"
    summary: ClassVar[str] = "salient tokens and centres that merge the rest, then one query-guided cut"
    paper: ClassVar[str] = "arXiv 2608.03812"
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper-25": {"audio_keep": 0.275, "video_keep": 0.10},
        "paper-20": {"audio_keep": 0.25, "video_keep": 0.075},
        "paper-15": {"audio_keep": 0.225, "video_keep": 0.05},
        "paper-10": {"audio_keep": 0.175, "video_keep": 0.03},
    }
    ratios = paper_ratios(presets)

    cues: Literal["multiply", "add"] = option("multiply", "encoder attention and temporal change: multiplied (code) or added (paper)")
    centre: float | None = option(
        None, "share of a kept token's own embedding after merging (code: .62 video, .65 audio; paper: 0)", low=0, high=1
    )

    @property
    def entry_scale(self) -> float:
        return SCALE

    def make_input_stage(self, prompt: PromptInfo, layout: MediaLayout, audio: int, video: int) -> Pack:
        return Pack(audio, video, layout, self.cues, self.centre)

    def entry_budget(self, layout: MediaLayout, layers: int, keep: float) -> int:
        weight = cut_layer(layers) + (layers - cut_layer(layers)) / SCALE
        return min(layout.total, max(min(2, layout.total), round(keep * layers * layout.total / weight)))

    def in_llm_stage_of_ratios(self, prompt: PromptInfo, layout: MediaLayout, entering: tuple[int, int]) -> CutAndMerge:
        """The paper's ratios are those after the cut."""
        layers, kept = prompt.num_layers, round((self.audio_keep or 0) * layout.audio + (self.video_keep or 0) * layout.video)
        before = cut_layer(layers)
        return self.make_in_llm_stage(prompt, layout, entering, sum(entering) * before + kept * (layers - before))

    def make_in_llm_stage(self, prompt: PromptInfo, layout: MediaLayout, entering: tuple[int, int], target: int) -> CutAndMerge:
        layers, alive = prompt.num_layers, sum(entering)
        before = cut_layer(layers)
        while before and before * alive + layers - before > target:
            before -= 1
        kept = min(alive, max(min(alive, 1), round((target - before * alive) / (layers - before))))
        audio = min(entering[0], max(kept - entering[1], round(kept * entering[0] / max(1, alive))))
        return CutAndMerge(before, entering, (audio, kept - audio))


def cut_layer(layers: int) -> int:
    """Index of the layer after which stage II cuts: 17 of 28 and 25 of 36 as published, the same depth elsewhere."""
    return 25 if layers == 36 else max(0, min(round(18 * layers / 28) - 1, layers - 2))


@dataclass(frozen=True)
class Pack:
    """Stage I: keeps `audio` and `video` tokens that merge the others."""

    audio: int
    video: int
    layout: MediaLayout
    cues: Literal["multiply", "add"]
    centre: float | None

    def __call__(self, view: InputView) -> Selection:
        audio, audio_embeds = self._pack(view, Modality.AUDIO, view.audio, self.audio)
        video, video_embeds = self._pack(view, Modality.VIDEO, view.video, self.video)
        return Selection(audio, video, audio_embeds, video_embeds)

    def _pack(self, view: InputView, modality: Modality, features: Tensor, keep: int) -> tuple[Tensor, Tensor | None]:
        """Ascending indices kept of one modality, and their merged embeddings."""
        present = features.shape[0]
        if keep in (0, present):
            return torch.arange(keep, device=features.device), None
        salience = self._salience(view, modality, features, keep / present)
        coordinates = coordinates_of(view.tokens, modality, features)
        dominant = topk.top(salience, max(1, min(keep, round(DOMINANT[modality] * keep))))
        rest = topk.without(dominant, present)
        scores = packing.centre_scores(features, rest, coordinates, salience)
        kept = topk.ascending(torch.cat((dominant, rest[topk.highest(scores, keep - dominant.shape[0])])), present)
        centre = CENTRE[modality] if self.centre is None else self.centre
        dropped, weight = topk.without(kept, present), COORDINATE_WEIGHT[modality]
        merged = packing.merge_into_kept(features, kept, dropped, coordinates, salience, weight=weight, centre=centre)
        return kept, merged.to(features.dtype)

    def _salience(self, view: InputView, modality: Modality, features: Tensor, ratio: float) -> Tensor:
        attention = view.audio_attention if modality == Modality.AUDIO else view.video_attention
        if attention is None:
            raise ValueError(f"{modality.name.lower()} is ranked by the attention of its encoder, and none was given")
        if modality == Modality.AUDIO:
            return packing.minmax(attention.float()) + NOVELTY_WEIGHT * packing.minmax(neighbour_change(features[:, None])[:, 0])
        weight = BIAS_WEIGHT * (0.35 + 0.65 * min(1.0, max(0.0, (ratio - 0.14) / 0.28)))
        bias = weight * packing.minmax(event_bias(features.view(self.layout.frames, self.layout.frame_size, -1)).flatten())
        scaled = packing.minmax(attention.float())
        return scaled * (1 + bias) + 1e-6 if self.cues == "multiply" else scaled + bias


def neighbour_change(frames: Tensor) -> Tensor:
    """(f, s) largest of 1 - cosine to the same place of the frame before and of the frame after, for `frames` (f, s, d)."""
    change = 1 - cosine_similarity(frames[:-1].float(), frames[1:].float(), dim=-1)
    edge = torch.zeros_like(frames[:1, :, 0], dtype=torch.float32)
    return torch.maximum(torch.cat((change, edge)), torch.cat((edge, change)))


def event_bias(frames: Tensor) -> Tensor:
    """(f, s) evidence of events in `frames` (f, s, d): temporal change or spatial detail, and curvature of the change over time."""
    count = frames.shape[0]
    if count < 2:
        return torch.zeros(frames.shape[:2], device=frames.device)
    evidence, curvature = [], []
    for start in range(0, count, topk.BLOCK):
        # A block and the frames next to it: the float32 copies are as large as a block, not as the clip.
        low, high = max(0, start - 1), min(count, start + topk.BLOCK + 1)
        own = slice(start - low, min(start + topk.BLOCK, count) - low)
        these = frames[low:high].float()
        detail = 1 - cosine_similarity(these, these.mean(dim=1, keepdim=True), dim=-1)
        steps, curve = these.diff(dim=0), torch.zeros_like(detail)
        curve[1:-1] = 1 - cosine_similarity(steps[:-1], steps[1:], dim=-1)
        evidence.append(torch.maximum(neighbour_change(these), detail)[own])
        curvature.append(curve[own])
    return packing.minmax(torch.cat(evidence)) + CURVATURE_WEIGHT * packing.minmax(torch.cat(curvature))


def coordinates_of(tokens: TokenMap, modality: Modality, like: Tensor) -> Tensor:
    """(n, 3) time, row and column of video tokens, (n, 1) place of audio tokens, each in [0, 1]."""
    at = tokens.rows(modality)
    columns = (tokens.grid[at], tokens.row[at], tokens.col[at]) if modality == Modality.VIDEO else (range(len(at)),)
    placed = torch.tensor([list(column) for column in columns], dtype=torch.float32).T
    return (placed / placed.amax(dim=0).clamp(min=1)).to(like.device, non_blocking=True)


@dataclass(frozen=True)
class CutAndMerge:
    """Stage II: after layer `after`, `survivors` (audio, video) of the `entering` tokens stay and merge the others."""

    after: int
    entering: tuple[int, int]
    survivors: tuple[int, int]

    def keep_count(self, layer: int, alive: int) -> int:
        return min(alive, sum(self.survivors)) if layer == self.after else alive

    def __call__(self, view: LayerView, keep: int) -> LayerSelection:
        hidden, text = view.hidden, Directions.of(view.text_hidden)
        query = normalize(text.rows.mean(dim=0, dtype=torch.float32), dim=0)
        at = [topk.true_indices(view.modality == m, n) for m, n in zip((Modality.AUDIO, Modality.VIDEO), self.entering, strict=True)]
        features = [hidden[indices] for indices in at]
        index, states = [], []
        for own, other, indices, count in zip(features, features[::-1], at, self.survivors, strict=True):
            if not count:
                continue
            relevance = relevance_of(own, other, text, query)
            kept = packing.relevant_and_diverse(own, relevance, count)
            states.append(packing.merge_by_similarity(own, kept, topk.without(kept, own.shape[0]), relevance))
            index.append(indices[kept])
        return LayerSelection(torch.cat(index), torch.cat(states))


def relevance_of(own: Tensor, other: Tensor, text: Directions, query: Tensor) -> Tensor:
    """(n,) relevance of `own` (n, d): similarity to the text, similarity to the other modality's mean, and density, each scaled to [0, 1].

    `text` are the states of all text tokens, `query` (d,) the unit vector of their mean.
    """
    tokens, none = Directions.of(own), torch.zeros_like(query)
    shared = normalize(other.mean(dim=0, dtype=torch.float32), dim=0) if other.shape[0] else none
    mean = torch.stack([unit.sum(dim=0) for _, unit in tokens.blocks()]).sum(dim=0) / own.shape[0]
    axes = torch.stack((query, shared, mean), dim=1)
    asked, agreed, near = torch.cat([unit @ axes for _, unit in tokens.blocks()]).unbind(dim=1)
    density = (near - 1).exp()  # the mean of 1 - cos over all tokens is 1 - x · mean
    said = tokens.highest(text, packing.BLOCK) if text.scale.shape[0] else torch.zeros_like(asked)
    return packing.minmax(torch.maximum(asked, said)) + packing.minmax(agreed) + packing.minmax(density)
