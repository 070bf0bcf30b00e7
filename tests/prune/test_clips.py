"""Every method over several clips: what is kept of a clip is what would be kept of it alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from omnidrop_cli.config import PruningConfig
from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.outputs import Modality, TokenMap
from omnidrop_cli.prompt.layout import assemble, lay_out
from omnidrop_cli.prompt.spec import PromptSpec
from omnidrop_cli.prune.base import InputView, LayerSelection, Method, PromptInfo
from omnidrop_cli.prune.clips import plan_clips
from omnidrop_cli.prune.methods import find, get_method, names
from tests.prune.fakes import made

SPEC = PromptSpec(*range(9))
LAYERS, DIM = 8, 16
METHODS = [name for name in names() if "keep" in find(name).__dataclass_fields__]  # type: ignore[attr-defined]

Shape = tuple[tuple[int, int, int] | None, float | None, int]
BOTH: Shape = ((6, 6, 8), 1.0, 150)
OTHER_SIZE: Shape = ((5, 4, 10), 0.7, 90)
SILENT: Shape = ((7, 8, 4), 2.0, 0)
PICTURE: Shape = ((1, 6, 6), 1.0, 0)
SOUND: Shape = (None, None, 77)
TUPLES = [(BOTH, OTHER_SIZE), (BOTH, BOTH), (SILENT, SOUND), (SOUND, BOTH), (PICTURE, SILENT), (PICTURE, SOUND, OTHER_SIZE), (SOUND, SOUND)]


def map_of(*shapes: Shape) -> TokenMap:
    blocks = [lay_out(SPEC, grid_thw=grid, seconds_per_grid=seconds, audio_tokens=audio) for grid, seconds, audio in shapes]
    ids = np.arange(20) + 100
    return assemble(ids, (ids >= 108) & (ids < 118), 5, blocks).tokens


@dataclass
class Values:
    """Random numbers per prompt token: embeddings and what the encoders attended to, then states and attention of every layer."""

    embeds: Tensor
    saliency: Tensor
    hidden: Tensor
    attention: Tensor
    text: Tensor

    @classmethod
    def draw(cls, length: int, seed: int = 0) -> Values:
        generator = torch.Generator().manual_seed(seed)
        shared = torch.randn(30, DIM, generator=generator)  # tokens resemble one another, as frames do
        embeds = shared[torch.randint(30, (length,), generator=generator)] + 0.3 * torch.randn(length, DIM, generator=generator)
        hidden = torch.randn(LAYERS, length, DIM, generator=generator)
        attention = torch.rand(LAYERS, length, generator=generator) / length
        text = torch.randn(9, DIM, generator=generator)
        return cls(embeds, torch.rand(length, generator=generator), hidden, attention, text)

    def of(self, places: Tensor) -> Values:
        return Values(self.embeds[places], self.saliency[places], self.hidden[:, places], self.attention[:, places], self.text)


@dataclass
class View:
    """`LayerView` over `Values`."""

    layer: int
    tokens: TokenMap
    values: Values
    index: Tensor
    num_layers: int = LAYERS
    asked: int = 0

    @property
    def modality(self) -> Tensor:
        return torch.from_numpy(self.tokens.modality)[self.index]

    @property
    def chunk(self) -> Tensor:
        return torch.from_numpy(self.tokens.chunk).long()[self.index]

    @property
    def hidden(self) -> Tensor:
        return self.values.hidden[self.layer][self.index]

    @property
    def text_hidden(self) -> Tensor:
        return self.values.text

    def attention(self, queries: str = "query") -> Tensor:
        self.asked += 1
        assert self.asked <= 1, "attention is computed once per layer"
        return self.values.attention[self.layer][self.index]


def kept_sets(method: Method, tokens: TokenMap, values: Values) -> tuple[list[Tensor], Tensor]:
    """Audio and video tokens entering layer 0 and leaving each layer, and their embeddings or states where merging changed them."""
    plan = plan_clips(method, PromptInfo(tokens, LAYERS))
    audio, video = (torch.from_numpy(tokens.rows(modality)) for modality in (Modality.AUDIO, Modality.VIDEO))
    changed = values.embeds.clone()
    alive = torch.cat((audio, video)).sort().values
    if plan.input_stage is not None:
        query = values.text[:4]
        view = InputView(tokens, values.embeds[audio], values.embeds[video], query, values.saliency[audio], values.saliency[video])
        chosen = plan.input_stage(view)
        for places, index, embeds in ((audio, chosen.audio, chosen.audio_embeds), (video, chosen.video, chosen.video_embeds)):
            if embeds is not None:
                changed[places[index]] = embeds.float()
        alive = torch.cat((audio[chosen.audio], video[chosen.video])).sort().values
    sets = [alive]
    for layer in range(LAYERS - 1):
        keep = plan.in_llm_stage.keep_count(layer, len(alive)) if plan.in_llm_stage is not None else len(alive)
        if plan.in_llm_stage is not None and keep < len(alive):
            selection = plan.in_llm_stage(View(layer, tokens, values, alive), keep)
            if isinstance(selection, LayerSelection):
                changed[alive[selection.index]] = selection.hidden.float()
                selection = selection.index
            assert len(selection) == keep == len(selection.unique())
            alive = alive[selection].sort().values
        sets.append(alive)
    return sets, changed


@pytest.mark.parametrize("name", [*METHODS, "seats+omnidrop", "divprune+seats", "omnisift+fastv"])
@pytest.mark.parametrize("shapes", TUPLES)
def test_a_clip_is_pruned_as_it_is_alone(name: str, shapes: tuple[Shape, ...]) -> None:
    pruned_alike(made(name, keep=0.3), shapes)


def test_temporal_distance_is_that_inside_a_clip() -> None:
    options = {"normalise": "true", "tds_layer": "0", "lambda_div": "0.5"}
    pruned_alike(get_method(PruningConfig("omnidrop", 0.3, options=options)), (BOTH, SILENT, BOTH))


def pruned_alike(method: Method, shapes: tuple[Shape, ...]) -> None:
    tokens = map_of(*shapes)
    values = Values.draw(len(tokens))
    sets, changed = kept_sets(method, tokens, values)
    for clip, shape in enumerate(shapes):
        alone = map_of(shape)
        own = torch.from_numpy(np.flatnonzero(tokens.clip == clip))
        media = torch.from_numpy(np.flatnonzero(alone.modality != Modality.TEXT))
        places = torch.zeros(len(alone), dtype=torch.int64)  # text has no values in a view
        places[media] = own
        expected, altered = kept_sets(method, alone, values.of(places))
        for layer, (ours, theirs) in enumerate(zip(sets, expected, strict=True)):
            assert torch.equal(ours[torch.isin(ours, own)], places[theirs]), f"clip {clip} entering layer {layer}"
        assert torch.allclose(changed[own], altered[media])


@pytest.mark.parametrize("name", METHODS)
def test_a_plan_runs_again_from_the_start(name: str) -> None:
    """Hooks on stock `generate` run every prefill by one plan."""
    tokens = map_of(BOTH, SILENT)
    plan = plan_clips(made(name, keep=0.4), PromptInfo(tokens, LAYERS))
    media = tokens.counts().media

    def counts() -> list[int]:
        alive = media
        if plan.input_stage is not None:
            audio, video = (torch.from_numpy(tokens.rows(m)) for m in (Modality.AUDIO, Modality.VIDEO))
            values = Values.draw(len(tokens))
            view = InputView(
                tokens, values.embeds[audio], values.embeds[video], values.text, values.saliency[audio], values.saliency[video]
            )
            chosen = plan.input_stage(view)
            alive = len(chosen.audio) + len(chosen.video)
        found = [alive]
        for layer in range(LAYERS):
            found.append(plan.in_llm_stage.keep_count(layer, found[-1]) if plan.in_llm_stage is not None else found[-1])
        return found

    assert counts() == counts()


@pytest.mark.parametrize("name", METHODS)
def test_everything_is_kept_of_every_clip(name: str) -> None:
    plan = plan_clips(made(name, keep=1.0), PromptInfo(map_of(BOTH, SOUND), LAYERS))
    assert plan.input_stage is None
    assert plan.in_llm_stage is None


@pytest.mark.parametrize("tokens", [map_of(BOTH), map_of(BOTH, SOUND)])
def test_what_is_no_plan_is_named(tokens: TokenMap, monkeypatch: pytest.MonkeyPatch) -> None:
    method = made("none")
    monkeypatch.setattr(type(method), "plan", lambda *_: 5)
    with pytest.raises(OmnidropError, match="the method none planned int, not a Plan"):
        plan_clips(method, PromptInfo(tokens, LAYERS))


def test_facts_of_clips_stand_side_by_side() -> None:
    metadata = plan_clips(made("random-input", keep=0.5), PromptInfo(map_of(BOTH, SOUND), LAYERS)).metadata
    assert metadata == {"audio_kept": "75 / 38", "video_kept": "36 / 0"}
    alike = plan_clips(made("random-input", keep=0.5), PromptInfo(map_of(BOTH, BOTH), LAYERS)).metadata
    assert alike == {"audio_kept": 75, "video_kept": 36}
