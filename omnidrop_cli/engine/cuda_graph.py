"""Decoding by a CUDA graph: the host launches a whole step at once instead of its thousand kernels one by one.

A captured step has fixed lengths, and every question leaves its own in the cache, so a graph lives for one answer. The first capture of
a session costs about three eager steps, since its first replay is compared with an eager step; later ones cost one. Short answers end
before it. Any failure leaves the cache as it was, and eager steps go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from omnidrop_cli.engine.decode_step import StaticDecode, step
from omnidrop_cli.engine.oom import out_of_memory
from omnidrop_cli.engine.row_step import compile_kernels, readable_layers
from omnidrop_cli.model.cuda_capture import Capture, capture_on

if TYPE_CHECKING:
    from omnidrop_cli.engine.kv_cache import RaggedCache
    from omnidrop_cli.engine.sampling import Sampler
    from omnidrop_cli.kernels.nf4_weights import NF4Layer
    from omnidrop_cli.model.thinker import Thinker

WARMUP_TOKENS = 2
"""Tokens decoded eagerly first: an answer of one letter or word needs no graph. On an H100 a capture takes as
long as one or two of them."""

MIN_TOKENS = 16
"""Tokens the answer must still be allowed, or a capture cannot pay."""

SYNC_EVERY = 4
"""Greedy tokens between two synchronisations with the host: often enough for text to flow, with at most three steps in vain at the end."""

MAX_CAPTURE = 1024
"""Most tokens of one capture; a longer answer gets another one. Masked rows are read in vain, and memory is taken before it is needed."""

ATOL = {torch.float32: 1e-3}
ATOL_HALF = 0.05
"""Largest difference of logits, as a share of the largest logit. Other attention kernels round otherwise; what this finds is a kernel
that cannot take its mask, stale addresses, memory that was not there."""


class Failure(NamedTuple):
    """Why a capture failed, and whether the next one would fail too."""

    reason: str
    lasting: bool


@dataclass(slots=True)
class CudaGraphRunner:
    """Captures graphs for a session. Without `capture` every token is decoded eagerly; `refusal` says why no more are captured.

    `kernels` is whether kernels for one row are used where they can read the weights; `verified` is whether a captured step has agreed
    with an eager one.
    """

    capture: Capture | None = None
    refusal: str | None = None
    reported: str | None = None
    kernels: bool = True
    verified: bool = False

    @classmethod
    def of(cls, thinker: Thinker, enabled: bool = True) -> CudaGraphRunner:
        """A runner that captures on CUDA, if `enabled`. Compiles what it will need: seconds the first time on a machine."""
        if not enabled or thinker.device.type != "cuda":
            return cls()
        refusal = _unable(thinker)
        if refusal is None:
            compile_kernels(thinker)
        return cls(capture_on(thinker.device), refusal)

    @torch.inference_mode()
    def run(
        self, thinker: Thinker, cache: RaggedCache, token: int, position: int, limit: int, warn: Callable[[str], None]
    ) -> CapturedDecode | None:
        """Capture a step and run it for `token`.

        Args:
            position: TMRoPE position of `token`.
            limit: most tokens that will follow.
            warn: receives one line where it fails, once per reason.

        Returns:
            The captured decode, which agrees with an eager step; None with the cache as before where it fails.
        """
        most, reason = min(MAX_CAPTURE, limit), self.refusal
        if reason is None and self.capture is not None:
            found = self._fastest(thinker, cache, token, position, most, warn)
            if isinstance(found, CapturedDecode):
                return found
            reason = found.reason
            if found.lasting:
                self.refusal = reason
        if reason != self.reported:
            self.reported = reason
            warn(f"decoding goes on without a CUDA graph, slower but the same: {reason}")
        return None

    def _fastest(
        self, thinker: Thinker, cache: RaggedCache, token: int, position: int, max_steps: int, warn: Callable[[str], None]
    ) -> CapturedDecode | Failure:
        """A captured step of kernels for one row where there are some for these weights, of the thinker's modules otherwise."""
        layers = readable_layers(thinker) if self.kernels else None
        if layers is not None:
            found = self._attempt(thinker, cache, token, position, max_steps, layers)
            if isinstance(found, CapturedDecode) or not found.lasting:
                return found
            self.kernels = self.verified = False
            warn(f"decoding goes on without kernels for NF4 weights, slower but the same: {found.reason}")
        return self._attempt(thinker, cache, token, position, max_steps)

    def _attempt(
        self, thinker: Thinker, cache: RaggedCache, token: int, position: int, max_steps: int, layers: Sequence[NF4Layer] | None = None
    ) -> CapturedDecode | Failure:
        """A captured step that has run for `token`; where it fails, `cache` is as before."""
        lengths = cache.lengths
        try:
            found = self._captured(thinker, cache, token, position, max_steps, layers)
        except Exception as error:  # whatever a kernel or a library raises, decoding goes on
            cache.truncate(lengths)
            return Failure(str(error).strip().partition("\n")[0] or type(error).__name__, lasting=not out_of_memory(error))
        return found or Failure("its first step differs from the eager one", lasting=True)

    def _captured(
        self, thinker: Thinker, cache: RaggedCache, token: int, position: int, max_steps: int, layers: Sequence[NF4Layer] | None
    ) -> CapturedDecode | None:
        """A captured step that has run for `token`; None where the first one of a session differs from an eager step."""
        if self.capture is None:
            return None
        lengths, expected = cache.lengths, None
        if not self.verified:
            expected = step(thinker, cache, token, position)
            cache.truncate(lengths)
        static = StaticDecode(thinker, cache, token, position, max_steps, layers)
        replay = self.capture(static.step)
        if expected is not None:
            eager = static.logits.clone()
            static.rollback(token)
            replay()
            atol = ATOL.get(thinker.dtype, ATOL_HALF)
            self.verified = agree(expected, eager, atol) and agree(eager, static.logits, atol)
        return CapturedDecode(static, replay, max_steps) if self.verified else None


class CapturedDecode:
    """A captured step that has run once."""

    def __init__(self, static: StaticDecode, replay: Callable[[], None], max_steps: int) -> None:
        """`max_steps` is the most steps it can run."""
        self._static, self._replay, self._max_steps = static, replay, max_steps
        self._steps = 1
        self._returned = False

    def next_tokens(self, sampler: Sampler, chosen: list[int], limit: int) -> list[int]:
        """Up to `limit` tokens that follow `chosen`; none where its storage is full."""
        fresh = 1
        if self._returned:
            fresh = min(SYNC_EVERY if sampler.greedy else 1, self._max_steps - self._steps, limit)
            for _ in range(fresh):
                self._replay()
            self._steps += max(0, fresh)
        self._returned = True
        if fresh <= 0:
            return []
        if sampler.greedy:
            return self._static.chosen(self._steps - fresh, self._steps)
        token = sampler.choose(self._static.logits, chosen)
        self._static.set_token(token)
        return [token]

    def commit(self, tokens: int) -> None:
        """Add the rows of the first `tokens` steps to the cache; later steps decoded tokens that nobody took."""
        self._static.commit(tokens)


def _unable(thinker: Thinker) -> str | None:
    """What is known to fail is not tried: a capture that breaks off leaves torch's allocator in a state of its own."""
    if thinker.loaded.attention != "sdpa":
        return f"{thinker.loaded.attention} takes no mask"
    if "int8" in (thinker.loaded.quant, thinker.loaded.quant_head):
        return "int8 looks for outliers on the host"
    return None


def agree(expected: Tensor, found: Tensor, bound: float) -> bool:
    """Whether two rows of logits (vocab,) choose alike: no difference over `bound` times the largest logit, and the likeliest token
    the same or as likely within that. Waits for the device."""
    allowed = bound * expected.abs().max()
    difference = (expected - found).abs().max()
    lost = expected.max() - expected[found.argmax()]
    return bool((difference <= allowed) & (lost <= allowed))  # false for NaN
