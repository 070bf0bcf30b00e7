"""A prompt and a decoder that exist only as counts and random numbers, and a run of a method over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from omnidrop_cli.config import PruningConfig
from omnidrop_cli.outputs import Modality, TokenMap
from omnidrop_cli.prune.base import InputView, LayerSelection, Method, Plan, PromptInfo
from omnidrop_cli.prune.methods import get_method

TEXT_BEFORE, TEXT_AFTER = 4, 3


def choice(name: str, **settings: Any) -> PruningConfig:
    """A pruning choice that works without trained weights: OmniSIFT takes its untrained selector."""
    return PruningConfig(name, options={"selector": "untrained"} if "omnisift" in name else {}, **settings)


def made(name: str, **settings: Any) -> Method:
    """The method of `choice`."""
    return get_method(choice(name, **settings))


def token_map(audio: tuple[int, ...], grids: tuple[int, ...], cells: tuple[int, int] = (3, 4), query: int = 5) -> TokenMap:
    """Chunks of `grids[i]` temporal grids of `cells`, each followed by `audio[i]` audio tokens, between text and the question."""
    rows: list[tuple[int, int, float, int, int, int, bool, int]] = [(0, -1, float("nan"), -1, -1, -1, False, -1)] * TEXT_BEFORE
    grid = 0
    for chunk in range(max(len(audio), len(grids))):
        for _ in range(grids[chunk] if chunk < len(grids) else 0):
            rows += [(2, chunk, 1.0 * grid, grid, r, c, False, 0) for r in range(cells[0]) for c in range(cells[1])]
            grid += 1
        count = audio[chunk] if chunk < len(audio) else 0
        rows += [(1, chunk, 2.0 * chunk + 0.04 * i, -1, -1, -1, False, 0) for i in range(count)]
    rows += [(0, -1, float("nan"), -1, -1, -1, True, -1)] * query
    rows += [(0, -1, float("nan"), -1, -1, -1, False, -1)] * TEXT_AFTER
    columns = list(zip(*rows, strict=True))
    kinds = (np.int8, np.int32, np.float32, np.int32, np.int16, np.int16, np.bool_, np.int16)
    return TokenMap(*(np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True)))


SHAPES = {
    "both": token_map((10, 10, 10, 6), (2, 2, 2, 1)),
    "one_chunk": token_map((10,), (2,)),
    "sound": token_map((10, 10, 7), ()),
    "picture": token_map((), (2, 2, 2, 2, 1)),
    "one_grid": token_map((5,), (1,)),
    "sound_longer": token_map((10, 10, 10, 10, 3), (2, 1)),
    "picture_longer": token_map((10,), (2, 2, 2)),
    "one_token": token_map((1,), ()),
    "two_tokens": token_map((1,), (1,), cells=(1, 1)),
    "one_word": token_map((10, 10), (2, 2), query=1),
    "text_only": token_map((), ()),
    "long": token_map((50,) * 12, (2,) * 12, cells=(4, 4)),
}


@dataclass
class FakeView:
    """`LayerView` over random numbers; `attention` depends on the layer and the token only, so that runs can be compared."""

    layer: int
    num_layers: int
    modality: Tensor
    chunk: Tensor
    index: Tensor
    length: int
    dim: int

    @property
    def hidden(self) -> Tensor:
        generator = torch.Generator().manual_seed(self.layer)
        return torch.randn(self.length, self.dim, generator=generator)[self.index]

    @property
    def text_hidden(self) -> Tensor:
        return torch.randn(7, self.dim, generator=torch.Generator().manual_seed(500 + self.layer))

    def attention(self, queries: str = "query") -> Tensor:
        generator = torch.Generator().manual_seed(1000 + self.layer + len(queries))
        return torch.rand(self.length, generator=generator).softmax(0)[self.index]


@dataclass
class Run:
    """What a fake prefill kept: prompt indices of audio and video tokens entering layer 0 and leaving each layer."""

    plan: Plan
    entering: Tensor
    leaving: list[Tensor]

    def mean_after(self, total: int) -> float:
        return sum(len(kept) for kept in self.leaving) / (len(self.leaving) * total)


def input_view(tokens: TokenMap, dim: int = 16, seed: int = 0) -> InputView:
    generator = torch.Generator().manual_seed(seed)
    counts = tokens.counts()
    return InputView(
        tokens=tokens,
        audio=torch.randn(counts.audio, dim, generator=generator),
        video=torch.randn(counts.video, dim, generator=generator),
        query=torch.randn(int(tokens.is_query.sum()), dim, generator=generator),
        audio_attention=torch.rand(counts.audio, generator=generator),
        video_attention=torch.rand(counts.video, generator=generator),
    )


def run(method: Method, tokens: TokenMap, layers: int = 8, dim: int = 16, seed: int = 0) -> Run:
    plan = method.plan(PromptInfo(tokens=tokens, num_layers=layers))
    places = {m: torch.as_tensor(tokens.rows(m)) for m in (Modality.AUDIO, Modality.VIDEO)}
    alive = torch.cat(list(places.values())).sort().values
    if plan.input_stage is not None:
        selection = plan.input_stage(input_view(tokens, dim, seed))
        for chosen, embeds in ((selection.audio, selection.audio_embeds), (selection.video, selection.video_embeds)):
            assert (chosen.diff() > 0).all()
            assert embeds is None or embeds.shape == (len(chosen), dim)
        alive = torch.cat((places[Modality.AUDIO][selection.audio], places[Modality.VIDEO][selection.video])).sort().values
    entering, leaving = alive, []
    for layer in range(layers):
        keep = plan.in_llm_stage.keep_count(layer, len(alive)) if plan.in_llm_stage is not None else len(alive)
        assert keep <= len(alive)
        if keep < len(alive):
            view = FakeView(
                layer, layers, torch.as_tensor(tokens.modality)[alive], torch.as_tensor(tokens.chunk)[alive].long(), alive, len(tokens), dim
            )
            chosen = plan.in_llm_stage(view, keep)  # type: ignore[misc]
            chosen = chosen.index if isinstance(chosen, LayerSelection) else chosen
            assert chosen.dtype == torch.int64
            assert len(chosen) == keep == len(chosen.unique())
            alive = alive[chosen].sort().values
        leaving.append(alive)
    return Run(plan, entering, leaving)
