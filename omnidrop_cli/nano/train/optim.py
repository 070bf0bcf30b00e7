"""Muon for the matrices and Adam for the rest, over bf16 weights with fp32 masters.

On CPUs with bf16 units pure bf16 weights are faster than autocast or fp32; the exact weights are kept here. Muon (Jordan et al. 2024;
scale of Liu et al., arXiv 2502.16982) took about half of Adam's steps to the same loss here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Quintic coefficients that push singular values towards 1 (Jordan et al.)."""

AVERAGED = 200
"""Steps over which weights are averaged (a tenth of those made, early on): at a rate that still learns they wander round a better place."""


OTHERS_RATIO, DECAY, BETAS = 0.4, 0.02, (0.9, 0.98)


class Optimiser:
    """`matrices` are updated by Muon, `others` (rows, norms, biases, kernels) by Adam at `OTHERS_RATIO` of the rate.

    Weight decay is decoupled and for matrices only. Weights may be of any float type.
    """

    def __init__(self, matrices: Sequence[Tensor], others: Sequence[Tensor]) -> None:
        self.weights = [*matrices, *others]
        self.master = [w.detach().float().clone() for w in self.weights]
        self.mean = [m.clone() for m in self.master]
        self._first = [torch.zeros_like(m) for m in self.master]
        self._second = [torch.zeros_like(m) if i >= len(matrices) else torch.zeros(0) for i, m in enumerate(self.master)]
        self._matrices, self._steps = len(matrices), 0

    @torch.no_grad()
    def step(self, rate: float, clip: float = 1.0) -> float:
        """One update; returns the gradient's norm before clipping. Weights without a gradient stay, as all do where it is not finite."""
        live = [i for i, w in enumerate(self.weights) if w.grad is not None]
        grads = [self.weights[i].grad.float() for i in live]  # type: ignore[union-attr]  # filtered above
        norm = float(torch.stack([g.pow(2).sum() for g in grads]).sum().sqrt())
        if math.isfinite(norm):
            self._steps += 1
            torch._foreach_mul_(grads, min(1.0, clip / (norm + 1e-6)))
            self._muon([(i, g) for i, g in zip(live, grads, strict=True) if i < self._matrices], rate)
            self._adam([(i, g) for i, g in zip(live, grads, strict=True) if i >= self._matrices], rate * OTHERS_RATIO)
            torch._foreach_copy_([self.weights[i].data for i in live], [self.master[i] for i in live])
            torch._foreach_lerp_(self.mean, self.master, max(1 / AVERAGED, 10 / (10 + self._steps)))
        self.zero_grad()
        return norm

    def _muon(self, pairs: Sequence[tuple[int, Tensor]], rate: float) -> None:
        shapes: dict[torch.Size, list[tuple[int, Tensor]]] = {}
        for index, grad in pairs:
            self._first[index].mul_(0.95).add_(grad)
            shapes.setdefault(grad.shape, []).append((index, grad + 0.95 * self._first[index]))
        for shape, members in shapes.items():
            updates = orthogonal(torch.stack([update for _, update in members])).float()
            scale = 0.2 * max(shape) ** 0.5
            for (index, _), update in zip(members, updates, strict=True):
                self.master[index].mul_(1 - rate * DECAY).sub_(update, alpha=rate * scale)

    def _adam(self, pairs: Sequence[tuple[int, Tensor]], rate: float) -> None:
        one, two = BETAS
        for index, grad in pairs:
            first, second = self._first[index], self._second[index]
            first.lerp_(grad, 1 - one)
            second.mul_(two).addcmul_(grad, grad, value=1 - two)
            below = (second / (1 - two**self._steps)).sqrt_().add_(1e-8)
            self.master[index].addcdiv_(first, below, value=-rate / (1 - one**self._steps))

    @property
    def steps(self) -> int:
        """Updates made so far, those before a resumption included."""
        return self._steps

    @torch.no_grad()
    def settle(self) -> None:
        """Put the running mean in the weights' place: for use, not for going on."""
        torch._foreach_copy_([w.data for w in self.weights], self.mean)

    def zero_grad(self) -> None:
        for weight in self.weights:
            weight.grad = None

    def state(self) -> dict[str, object]:
        return {"master": self.master, "mean": self.mean, "first": self._first, "second": self._second, "steps": self._steps}

    @torch.no_grad()
    def load(self, state: dict[str, object]) -> None:
        """Take back what `state` gave. Raises `ValueError` where the weights are others."""
        for name, mine in (("master", self.master), ("mean", self.mean), ("first", self._first), ("second", self._second)):
            theirs = state[name]
            if not isinstance(theirs, list) or [t.shape for t in theirs] != [m.shape for m in mine]:
                raise ValueError("the saved state belongs to a model of another shape")
            torch._foreach_copy_(mine, theirs)
        self._steps = int(state["steps"])  # type: ignore[call-overload]  # written by state()
        torch._foreach_copy_([w.data for w in self.weights], self.master)


def orthogonal(stack: Tensor) -> Tensor:
    """(n, r, c) matrices with their singular values pushed to about 1, in bf16, by five Newton-Schulz iterations."""
    tall = stack.shape[1] > stack.shape[2]
    x = (stack.mT if tall else stack).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(5):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    result: Tensor = x.mT if tall else x
    return result


def rate_at(step: int, steps: int, peak: float, warm: int = 60) -> float:
    """Linear warm-up, then a cosine down to 5 % of the peak."""
    if step < warm:
        return peak * (step + 1) / warm
    share = min(1.0, (step - warm) / max(1, steps - warm))
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))
