"""Rendered clips as the towers see and hear them, made by other processes while the decoder learns from the last ones.

Knows: which clips a step of stage three draws, how to run renderer and towers ahead of need. Does not know questions or the decoder.
The clips of step n come from (seed, n) alone, whoever makes them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from omnidrop_cli.nano.labels import MediaLabels, label
from omnidrop_cli.nano.perceive import perceive
from omnidrop_cli.nano.timeline import Profile, Timeline, sample
from omnidrop_cli.prompt.spec import PromptSpec

if TYPE_CHECKING:
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    from omnidrop_cli.nano.voices import VoiceBank

LENGTHS = ((0.55, 2, 8, 0.0), (0.25, 8, 16, 0.2), (0.2, 15, 40, 0.8))
"""Share, least and most seconds, needles among them."""

WHOLE = 0.75
"""Share of steps that feed every token, as inference does; the decoder's own stage saw thinned clips only."""

LONG = 0.03
"""Share of steps that show three clips of up to a minute with every token they have."""

AHEAD = 3
"""Steps that are under way or waiting in each process."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One clip: its truth, and the embeddings (n, d) of all its media tokens in prompt order."""

    timeline: Timeline
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
    clips: int

    @torch.no_grad()
    def make(self, seed: Sequence[int]) -> Drawn:
        rng = np.random.default_rng(seed)
        long, whole = rng.random() < LONG, rng.random() < WHOLE
        budget = None if long or whole else int(rng.integers(60, 300))
        # A step of whole clips costs about as much as one of half as many again that are thinned out.
        count = min(3, self.clips) if long else -(-self.clips * 2 // 3) if whole else self.clips
        timelines = [self._draw(rng, long, whole) for _ in range(count)]
        labels = [label(timeline, self.spec) for timeline in timelines]
        media = perceive(self.model, timelines, labels, self.bank, self.spec)
        return Drawn(tuple(Seen(*one) for one in zip(timelines, labels, media, strict=True)), budget)

    def _draw(self, rng: np.random.Generator, long: bool, whole: bool) -> Timeline:
        rows = LENGTHS[-1:] if long else LENGTHS[:2] if whole else LENGTHS
        shares = np.array([row[0] for row in rows])
        _, least, most, needle = rows[int(rng.choice(len(rows), p=shares / shares.sum()))]
        return sample(rng, Profile(least, 60 if long else most, needle=needle, voices=self.voices), self.bank.take)


class Stream:
    """The clips of step after step, `workers` processes ahead; none makes them on demand."""

    def __init__(self, maker: ClipMaker, seed: int, workers: int) -> None:
        self._maker, self._seed, self._workers = maker, seed, workers
        self._pool: ProcessPoolExecutor | None = None
        self._due: deque[Future[Drawn]] = deque()
        self._next = 0

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
        # Fork would copy a process whose matrix library already runs threads.
        return ProcessPoolExecutor(self._workers, torch.multiprocessing.get_context("spawn"), _receive, (self._maker,))


_MAKER: list[ClipMaker] = []
"""The maker of a worker process."""


def _receive(maker: ClipMaker) -> None:
    torch.set_num_threads(1)
    _MAKER.append(maker)


def _make(seed: tuple[int, int]) -> Any:
    return _MAKER[0].make(seed)
