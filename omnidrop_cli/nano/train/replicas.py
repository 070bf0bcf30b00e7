"""Several processes that train one model together, each on clips of its own, with shared gradients.

At this size a second core is worth more as a second batch than as a second thread of the same small products.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor

from omnidrop_cli.errors import OmnidropError, UsageError

RANK = "OMNIDROP_NANO_RANK"
"""Environment variable that tells a helper process its number."""

PATIENCE = timedelta(minutes=10)
"""How long one waits for the others' gradients before it gives up."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """One of `count` processes; number 0 leads: it alone writes states and curves."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """A seed of this process's own; the leader's is the recipe's."""
        return seed + 1_000_003 * self.rank

    @torch.no_grad()
    def agree(self, weights: Sequence[Tensor]) -> None:
        """Give all processes the leader's `weights`: what is drawn from a seed of its own must not make models of its own.

        Raises `OmnidropError` where another is gone.
        """
        if self.count == 1:
            return
        with _all_there():
            for weight in weights:
                torch.distributed.broadcast(weight, 0)

    @torch.no_grad()
    def share(self, weights: Sequence[Tensor]) -> None:
        """Replace all gradients by their mean over the processes. Raises `OmnidropError` where another is gone."""
        if self.count == 1:
            return
        grads = [w.grad for w in weights if w.grad is not None]
        flat = torch.cat([g.flatten().float() for g in grads])
        with _all_there():
            torch.distributed.all_reduce(flat)
        flat /= self.count
        for grad, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            grad.copy_(part.view_as(grad))


@contextlib.contextmanager
def _all_there() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise OmnidropError("one of the replicas has ended", "the same command goes on from the last state") from error


def this_one(count: int, device: torch.device) -> Replicas:
    """Which of `count` processes this is. Raises `UsageError` for a count below one, and for several anywhere but on the CPU."""
    if count < 1:
        raise UsageError(f"--replicas {count}: at least one process has to train", "leave it out for one")
    if count > 1 and device.type != "cpu":
        raise UsageError(f"--replicas {count}: on {device} one process trains", "leave it out, or add --device cpu")
    return Replicas(int(os.environ.get(RANK, "0")) if count > 1 else 0, count)


@contextlib.contextmanager
def together(me: Replicas, work: Path, arguments: Sequence[str]) -> Iterator[None]:
    """The leader starts the others with its own `arguments` (the recipe's command line); all meet, and end with it."""
    if me.count == 1:
        yield
        return
    meeting = (work / "replicas").resolve()
    helpers: list[subprocess.Popen[bytes]] = []
    if me.leads:
        meeting.unlink(missing_ok=True)
        command = [sys.executable, "-m", "omnidrop_cli.nano.train", *arguments]
        helpers = [subprocess.Popen(command, env={**os.environ, RANK: str(number)}) for number in range(1, me.count)]
    try:
        torch.distributed.init_process_group("gloo", init_method=meeting.as_uri(), rank=me.rank, world_size=me.count, timeout=PATIENCE)
        yield
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for helper in helpers:
            helper.terminate()
        for helper in helpers:
            helper.wait()
