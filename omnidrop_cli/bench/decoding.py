"""Seconds per answer token: stock `generate`, our eager steps, and the captured graph, from the same prompt in one run.

Knows: the roads, when each of their tokens arrived, alternation. Does not know: clips, tables. Without CUDA nothing can be captured;
the step that a graph would replay then runs eagerly ("static"), which tells what its fixed buffers cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from omnidrop_cli.bench.floor import median
from omnidrop_cli.config import GenerationConfig, PruningConfig
from omnidrop_cli.engine.cuda_graph import AFTER, LEAST, Graphs, answer_tokens
from omnidrop_cli.engine.encode import MediaFeatures, embed
from omnidrop_cli.engine.generate import Sampler
from omnidrop_cli.engine.prefill import prefill
from omnidrop_cli.events import SILENT, Observer
from omnidrop_cli.prune.methods import create

if TYPE_CHECKING:
    from omnidrop_cli.model.thinker import Thinker
    from omnidrop_cli.outputs import Prompt

FIRST = AFTER + 1
"""Index of the first token whose arrival counts for the time per token: a graph is made just before it."""

FEWEST = FIRST + LEAST
"""Tokens a measurement takes at least."""


@dataclass(frozen=True, slots=True)
class DecodeResult:
    """One road behind one method's prefill. Medians in seconds: `token_s` per token once under way, `answer_s` from the answer's first
    token to its last, a graph's capture included. The ratios are stock generate's, unpruned, over this road's. Where there is no
    figure, `note` says why."""

    method: str
    keep: float | None
    road: str
    tokens: int
    token_s: float | None = None
    answer_s: float | None = None
    token_speedup: float | None = None
    answer_speedup: float | None = None
    note: str | None = None


@dataclass(slots=True)
class _Road:
    """`run` decodes once and gives the time at which each token was known to the host."""

    method: str
    keep: float | None
    name: str
    run: Callable[[], list[float]]
    notes: list[str] = field(default_factory=list)
    token_times: list[float] = field(default_factory=list)
    answer_times: list[float] = field(default_factory=list)


def measure_decoding(
    thinker: Thinker,
    prompt: Prompt,
    features: MediaFeatures,
    choices: list[PruningConfig],
    *,
    tokens: int,
    repeats: int = 3,
    observer: Observer = SILENT,
) -> list[DecodeResult]:
    """`tokens` greedy tokens (at least `FEWEST`) on every road, behind a prefill by every choice; end tokens end nothing."""
    tokens = max(tokens, FEWEST)
    stock = _Road("none", None, "stock", lambda: _stock(thinker, prompt, tokens))
    roads = [stock, *(road for choice in choices for road in _ours(thinker, prompt, features, choice, tokens))]
    for repeat in range(repeats + 1):
        for road in roads if repeat % 2 == 0 else roads[::-1]:
            _measure(road, tokens, counts=repeat > 0)  # the first run warms up
        observer.advance(repeat + 1, repeats + 1)
    return [_result(road, stock, tokens) for road in roads]


def _ours(thinker: Thinker, prompt: Prompt, features: MediaFeatures, choice: PruningConfig, tokens: int) -> Iterator[_Road]:
    method = create(choice)
    start = prefill(thinker, prompt, embed(thinker, prompt, features), features, method)
    lengths = start.cache.lengths
    sampler = Sampler(thinker, torch.from_numpy(prompt.input_ids).to(thinker.device), GenerationConfig())
    on_cuda = thinker.device.type == "cuda"
    for name, graphs in (
        ("eager", Graphs()),
        ("graph", Graphs.of(thinker)) if on_cuda else ("static", Graphs(_uncaptured)),
    ):
        notes: list[str] = []

        def run(graphs: Graphs = graphs, tell: Callable[[str], None] = notes.append) -> list[float]:
            start.cache.crop(lengths)
            with closing(answer_tokens(thinker, start, sampler, tokens, graphs, tell)) as given:
                return [time.perf_counter() for _ in islice(given, tokens)]

        yield _Road(method.name, choice.keep, name, run, notes)


def _uncaptured(step: Callable[[], None]) -> Callable[[], None]:
    step()
    return step


def _stock(thinker: Thinker, prompt: Prompt, tokens: int) -> list[float]:
    """transformers' own `generate`, unpruned. It brings every token to the host anyway, to see whether it is the last."""
    from transformers.generation import BaseStreamer

    stamps: list[float] = []

    class Clock(BaseStreamer):  # type: ignore[misc]  # transformers carries no types here
        def put(self, value: Any) -> None:
            stamps.append(time.perf_counter())

        def end(self) -> None:
            """Nothing is held back."""

    ids = torch.from_numpy(prompt.input_ids).to(thinker.device)[None]
    thinker.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        position_ids=torch.from_numpy(prompt.positions).to(thinker.device)[:, None],
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=thinker.sizes.vocab,  # a token that never comes
        pad_token_id=thinker.pad_id,
        streamer=Clock(),
    )
    return stamps[1:]  # the first call hands over the prompt


def _measure(road: _Road, tokens: int, *, counts: bool) -> None:
    if road.notes:
        return
    try:
        stamps = road.run()
    except torch.OutOfMemoryError:  # stock makes logits of every prompt row
        road.notes.append("out of memory")
        return
    if counts and not road.notes:
        road.token_times.append((stamps[-1] - stamps[FIRST]) / (tokens - 1 - FIRST))
        road.answer_times.append(stamps[-1] - stamps[0])


def _result(road: _Road, stock: _Road, tokens: int) -> DecodeResult:
    if road.notes:
        return DecodeResult(road.method, road.keep, road.name, tokens, note=road.notes[0])
    token_s, answer_s = median(road.token_times), median(road.answer_times)
    compared = not stock.notes
    return DecodeResult(
        road.method,
        road.keep,
        road.name,
        tokens,
        token_s,
        answer_s,
        median(stock.token_times) / token_s if compared else None,
        median(stock.answer_times) / answer_s if compared else None,
    )
