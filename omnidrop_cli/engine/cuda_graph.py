"""Decoding by a captured graph: the host launches a whole step at once instead of its thousand kernels one by one.

Knows: when a graph is worth its capture, how it is captured on CUDA, how its first replay is held against the eager steps, and what
happens where it fails: the eager road goes on and one line says so. Does not know: what a step does (`decode_step.py`), text.

A captured step has fixed lengths, and every question leaves its own in the cache, so a graph lives for one answer. A capture costs
about three eager steps; short answers end before it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from omnidrop_cli.engine.decode_step import StaticDecode, step
from omnidrop_cli.engine.oom import out_of_memory
from omnidrop_cli.engine.prefill import Prefilled

if TYPE_CHECKING:
    from omnidrop_cli.engine.generate import Sampler
    from omnidrop_cli.model.thinker import Thinker

Capture = Callable[[Callable[[], None]], Callable[[], None]]
"""Runs a step once as a warm-up, records a second run that has no effect, and gives back what replays the record."""

AFTER = 8
"""Tokens read eagerly first: an answer of one letter or a few words needs no graph."""

LEAST = 16
"""Tokens the answer must still be allowed, or a capture cannot pay."""

AT_ONCE = 4
"""Greedy tokens between two looks at them from the host: often enough for text to flow, with at most three steps in vain at the end."""

ROOM = 1024
"""Most tokens of one capture; a longer answer gets another one. Masked rows are read in vain, and memory is taken before it is needed."""

AGREE = {torch.float32: 1e-3}
AGREE_HALF = 0.05
"""Largest difference of logits, as a share of the largest logit. Other attention kernels round otherwise; what this finds is a kernel
that cannot take its mask, stale addresses, memory that was not there."""


@dataclass(slots=True)
class Graphs:
    """A session's way to graphs: how to capture one, and why not any more. Without `capture` every token is read eagerly."""

    capture: Capture | None = None
    refusal: str | None = None
    told: str | None = None

    @classmethod
    def of(cls, thinker: Thinker, wanted: bool = True) -> Graphs:
        """Graphs on CUDA, unless not `wanted`."""
        if not wanted or thinker.device.type != "cuda":
            return cls()
        return cls(CudaCapture(thinker.device), _unable(thinker))


def _unable(thinker: Thinker) -> str | None:
    """What is known to fail is not tried: a capture that breaks off leaves torch's allocator in a state of its own."""
    if thinker.loaded.attention != "sdpa":
        return f"{thinker.loaded.attention} takes no mask"
    if thinker.loaded.quant == "int8":
        return "int8 looks for outliers on the host"
    return None


class CudaCapture:
    """`Capture` by `torch.cuda.CUDAGraph`.

    One side stream for all captures: libraries keep a workspace of tens of megabytes for every stream they have seen. Nothing is handed
    back to the driver before a capture, as `torch.cuda.graph` does, since the next prefill would ask for it all again.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream | None = None

    def __call__(self, step: Callable[[], None]) -> Callable[[], None]:
        """Raises `RuntimeError` for a step that waits for the host, or for one that finds too little memory."""
        with torch.cuda.device(self._device):
            side = self._stream = self._stream or torch.cuda.Stream()
            graph = torch.cuda.CUDAGraph()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                step()  # libraries make their workspaces on first use of a stream, which a capture forbids
                torch.cuda.synchronize()
                graph.capture_begin(capture_error_mode="thread_local")  # another thread may be busy with the next clip
                try:
                    step()
                except BaseException:
                    with suppress(RuntimeError):  # it fails for the reason that is on its way already
                        graph.capture_end()
                    raise
                graph.capture_end()
            torch.cuda.current_stream().wait_stream(side)
        return graph.replay


@torch.inference_mode()
def answer_tokens(
    thinker: Thinker, prefilled: Prefilled, sampler: Sampler, most: int, graphs: Graphs, tell: Callable[[str], None]
) -> Generator[int, None, None]:
    """The answer's tokens, up to `most` of them: each step eager until `AFTER` were read, then replays of a graph where `graphs` can make
    one; where it should and fails, `tell` gets the reason.

    Whenever the iterator stops or is closed, the cache holds exactly the tokens before the last one given.
    """
    tokens = [sampler.choose(prefilled.logits, [])]
    yield tokens[-1]
    hopeful = graphs.capture is not None
    while True:
        read = len(tokens) - 1
        left = most - len(tokens)
        if hopeful and read >= AFTER and left >= LEAST:
            position = prefilled.next_position + read
            made = _captured(thinker, prefilled, tokens[-1], position, min(ROOM, left), graphs, tell)
            if made is not None:
                yield from _replayed(*made, sampler, tokens, most)
                continue
            hopeful = False
        logits = step(thinker, prefilled.cache, tokens[-1], prefilled.next_position + read)
        tokens.append(sampler.choose(logits, tokens))
        yield tokens[-1]


def _captured(
    thinker: Thinker, prefilled: Prefilled, token: int, position: int, room: int, graphs: Graphs, tell: Callable[[str], None]
) -> tuple[StaticDecode, Callable[[], None], int] | None:
    """A graph that has read `token` and agrees with the eager step that read it too; its replay, and its room. None: the cache is as
    before."""
    cache = prefilled.cache
    lengths = cache.lengths
    reason = graphs.refusal
    if reason is None and graphs.capture is not None:
        try:
            expected = step(thinker, cache, token, position)
            cache.crop(lengths)
            static = StaticDecode(thinker, cache, token, position, room)
            replay = graphs.capture(static.step)
            eager = static.logits.clone()
            static.rewind(token)
            replay()
            bound = AGREE.get(thinker.dtype, AGREE_HALF)
            if agree(expected, eager, bound) and agree(eager, static.logits, bound):
                return static, replay, room
            reason = "its first step differs from the eager one"
            graphs.refusal = reason
        except Exception as error:  # whatever a kernel or a library raises, the eager road is there
            cache.crop(lengths)
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            if not out_of_memory(error):
                graphs.refusal = reason
    if reason != graphs.told:
        graphs.told = reason
        tell(f"decoding goes on without a CUDA graph, slower but the same: {reason}")
    return None


def agree(expected: Tensor, found: Tensor, bound: float) -> bool:
    """Whether two rows of logits (vocab,) choose alike: no difference over `bound` times the largest logit, and the likeliest token
    the same or as likely within that. Waits for the device."""
    allowed = bound * expected.abs().max()
    difference = (expected - found).abs().max()
    lost = expected.max() - expected[found.argmax()]
    return bool((difference <= allowed) & (lost <= allowed))  # false for NaN


def _replayed(
    static: StaticDecode, replay: Callable[[], None], room: int, sampler: Sampler, tokens: list[int], most: int
) -> Generator[int, None, None]:
    """Tokens by `replay`, which has run once, until the room is full; they are added to `tokens`."""
    given = 0
    steps = 1
    fresh = 1
    try:
        while True:
            if sampler.greedy:
                chunk = static.chosen(steps - fresh, steps)
            else:
                chunk = [sampler.choose(static.logits, tokens)]
                static.feed(chunk[0])
            for token in chunk:
                tokens.append(token)
                given += 1
                yield token
            fresh = min(AT_ONCE if sampler.greedy else 1, room - steps, most - len(tokens))
            if fresh <= 0:
                return
            for _ in range(fresh):
                replay()
            steps += fresh
    finally:
        # Step n read what step n - 1 chose: rows past the last token given belong to tokens nobody saw.
        static.accept(given)
