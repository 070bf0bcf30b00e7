"""Seconds per answer token: stock `generate`, our eager steps and the captured graph, from the same prompt.

Without CUDA nothing can be captured; the step that a graph would replay then runs eagerly ("static"), which shows what its fixed buffers
cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from omnidrop_cli.bench.measurement import Group, Sample, alternate
from omnidrop_cli.bench.prefilling import label
from omnidrop_cli.config import GenerationConfig, PruningConfig
from omnidrop_cli.engine.cuda_graph import MIN_TOKENS, WARMUP_TOKENS, CudaGraphRunner
from omnidrop_cli.engine.encode import MediaFeatures, embed
from omnidrop_cli.engine.generate import Decoding
from omnidrop_cli.engine.prefill import prefill
from omnidrop_cli.engine.sampling import Sampler
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.prune.methods import get_method

if TYPE_CHECKING:
    from omnidrop_cli.model.thinker import Thinker
    from omnidrop_cli.outputs import Prompt

FIRST = WARMUP_TOKENS + 1
"""Index of the first token whose arrival counts for the time per token: a graph is captured just before it."""

FEWEST = FIRST + MIN_TOKENS
"""Least number of tokens in a measurement."""


def measure_decoding(
    thinker: Thinker,
    prompt: Prompt,
    features: MediaFeatures,
    choices: Sequence[PruningConfig],
    *,
    tokens: int,
    repeats: int = 3,
    progress: ProgressCallback = SILENT,
) -> Group:
    """Decode `tokens` greedy tokens (at least `FEWEST`) with every backend behind every choice's prefill; end tokens end nothing.

    A run's seconds are per token once under way; the fact `answer_s` is from the answer's first token to its last, a graph's capture
    included. Speed is relative to stock `generate` on the unpruned prompt.
    """
    tokens = max(tokens, FEWEST)
    runs: dict[str, Callable[[], Sample]] = {"none, stock": partial(_sample, partial(_stock, thinker, prompt, tokens), tokens, [])}
    for choice in choices:
        runs |= dict(_backends(thinker, prompt, features, choice, tokens))
    return Group(f"decoding, {tokens} tokens", alternate(runs, repeats, progress))


def _backends(
    thinker: Thinker, prompt: Prompt, features: MediaFeatures, choice: PruningConfig, tokens: int
) -> Iterator[tuple[str, Callable[[], Sample]]]:
    start = prefill(thinker, prompt, embed(thinker, prompt, features), features, get_method(choice))
    lengths = start.cache.lengths
    sampler = Sampler(thinker, torch.from_numpy(prompt.input_ids).to(thinker.device), GenerationConfig())
    cuda = thinker.device.type == "cuda"
    captured = ("graph", CudaGraphRunner.of(thinker)) if cuda else ("static", CudaGraphRunner(uncaptured))
    for name, runner in (("eager", CudaGraphRunner()), captured):
        notices: list[str] = []

        def decode(runner: CudaGraphRunner = runner, warn: Callable[[str], None] = notices.append) -> list[float]:
            start.cache.truncate(lengths)
            return arrivals(Decoding(thinker, start, sampler, tokens, runner, warn), tokens)

        yield f"{label(choice)}, {name}", partial(_sample, decode, tokens, notices)


def arrivals(decoding: Decoding, tokens: int) -> list[float]:
    """Decode `tokens` tokens, end tokens included; when each was on the host, in seconds of `time.perf_counter`."""
    stamps: list[float] = []
    while len(stamps) < tokens:
        fresh = decoding.next_tokens()
        decoding.chosen += fresh
        stamps += [time.perf_counter()] * len(fresh)
    decoding.close()
    return stamps[:tokens]


def uncaptured(step: Callable[[], None]) -> Callable[[], None]:
    """A capture that records nothing: every replay executes the step."""
    step()
    return step


def _stock(thinker: Thinker, prompt: Prompt, tokens: int) -> list[float]:
    """transformers' own `generate`, unpruned. It copies every token to the host anyway, to see whether it is the last."""
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


def _sample(decode: Callable[[], list[float]], tokens: int, notices: Sequence[str]) -> Sample:
    """One decoding. `decode` gives the time at which each token was on the host; a notice says why a backend could not run."""
    try:
        stamps = decode()
    except torch.OutOfMemoryError:  # stock `generate` makes logits of every prompt row
        return Sample(problem="out of memory")
    if notices:
        return Sample(problem=notices[0])
    return Sample((stamps[-1] - stamps[FIRST]) / (tokens - 1 - FIRST), facts={"answer_s": stamps[-1] - stamps[0]})
