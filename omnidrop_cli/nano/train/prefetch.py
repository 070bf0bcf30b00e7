"""Encoded clips of stage three, made by other processes while the decoder learns from the last ones.

The clips of step n come from (seed, n) alone, their kind of length from n, whichever process makes them.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from omnidrop_cli.nano.train.labels import MediaLabels, label
from omnidrop_cli.nano.train.perceive import perceive
from omnidrop_cli.nano.world.scenario import Profile, Scenario, sample
from omnidrop_cli.prompt.spec import PromptSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2_5OmniThinkerForConditionalGeneration

    from omnidrop_cli.nano.world.voices import VoiceBank


@dataclass(frozen=True, slots=True)
class Lengths:
    """Clips of one step are of one class, so that little is padded. `whole` of them are fed with every token, or `thinned` with fewer."""

    share: float
    least_s: int
    most_s: int
    needle: float
    whole: int
    thinned: int


LENGTHS = (Lengths(0.27, 2, 8, 0.0, 10, 12), Lengths(0.59, 7, 15, 0.15, 6, 12), Lengths(0.14, 15, 60, 0.8, 2, 12))

PAIRS = 0.35
"""Share of scenes with two things at once, more than the benchmark has: lists went wrong there most."""

WHOLE = 0.6
"""Share of steps that feed every token, as inference does; the decoder's own stage saw thinned clips only."""

AHEAD = 3
"""Steps that are under way or waiting in each process."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One clip: its truth, and the embeddings (n, d) of all its media tokens in prompt order."""

    timeline: Scenario
    labels: MediaLabels
    media: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """The clips of a step, and how many media tokens of each are to be fed; None for all."""

    clips: tuple[Seen, ...]
    budget: int | None


@dataclass(frozen=True, slots=True, eq=False)
class ClipMaker:
    """Draws, renders and encodes the clips of one step."""

    model: Qwen2_5OmniThinkerForConditionalGeneration
    spec: PromptSpec
    bank: VoiceBank
    voices: tuple[int, ...]
    lengths: Sequence[Lengths] = LENGTHS

    @torch.no_grad()
    def make(self, seed: Sequence[int]) -> Drawn:
        row, budget = self._shape(seed[-1])
        rng = np.random.default_rng(seed)
        profile = Profile(row.least_s, row.most_s, needle=row.needle, voices=self.voices, pairs=PAIRS)
        timelines = [sample(rng, profile, self.bank.take) for _ in range(row.whole if budget is None else row.thinned)]
        labels = [label(timeline, self.spec) for timeline in timelines]
        media = perceive(self.model, timelines, labels, self.bank, self.spec)
        return Drawn(tuple(Seen(*one) for one in zip(timelines, labels, media, strict=True)), budget)

    def _shape(self, step: int) -> tuple[Lengths, int | None]:
        """Class of length and budget of a step, whatever the seed: replicas that share gradients should have equally much to do."""
        rng = np.random.default_rng(step)
        shares = np.array([row.share for row in self.lengths])
        row = self.lengths[int(rng.choice(len(shares), p=shares / shares.sum()))]
        return row, None if rng.random() < WHOLE else int(rng.integers(60, 300))


class Stream:
    """The clips of step after step, `workers` processes ahead; none makes them on demand."""

    def __init__(self, maker: ClipMaker, seed: int, workers: int) -> None:
        self._maker, self._seed, self._workers = maker, seed, workers
        self._pool: ProcessPoolExecutor | None = None
        self._due: deque[Future[Drawn]] = deque()
        self._next = 0

    @classmethod
    def of(
        cls,
        model: Qwen2_5OmniThinkerForConditionalGeneration,
        tokenizer: PreTrainedTokenizerFast,
        bank: VoiceBank,
        voices: tuple[int, ...],
        lengths: Sequence[Lengths] = LENGTHS,
        seed: int = 0,
        workers: int = 0,
    ) -> Stream:
        """Clips with these voices, seen and heard by this model's encoders."""
        return cls(ClipMaker(model, PromptSpec.from_config(model.config, tokenizer), bank, voices, lengths), seed, workers)

    def take(self, step: int) -> Drawn:
        """The clips of `step`; asked in order."""
        if not self._workers:
            return self._maker.make((self._seed, step))
        if self._pool is None:
            self._pool = self._start()
            self._next = step
        while len(self._due) < AHEAD * self._workers:
            self._due.append(self._pool.submit(_make, (self._seed, self._next)))
            self._next += 1
        return self._due.popleft().result()

    def _start(self) -> ProcessPoolExecutor:
        # Fork would copy a process whose matrix library already runs threads. Workers leave the accelerator to the decoder.
        maker = replace(self._maker, model=copy.deepcopy(self._maker.model).cpu())
        return ProcessPoolExecutor(self._workers, torch.multiprocessing.get_context("spawn"), _receive, (maker,))


_MAKER: list[ClipMaker] = []
"""The maker of a worker process."""


def _receive(maker: ClipMaker) -> None:
    torch.set_num_threads(1)
    _MAKER.append(maker)


def _make(seed: tuple[int, int]) -> Any:
    return _MAKER[0].make(seed)
