"""A training stage that can be stopped at any moment and resumed: steps, learning curves, saved states.

Randomness of step n comes from (seed, n) alone, so a resumed run draws what an unbroken one would have drawn.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from omnidrop_cli import fileio
from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.nano.train.answer_loss import AnswerScore
from omnidrop_cli.nano.train.optim import Optimiser, rate_at
from omnidrop_cli.nano.train.replicas import Replicas

Hits = list[tuple[str, bool]]
ALONE = Replicas()


class Stage(Protocol):
    """What the loop runs. `step` computes gradients and returns the loss and what was right."""

    name: str
    optimiser: Optimiser

    def step(self, rng: np.random.Generator, progress: float) -> tuple[float, Hits]: ...


@dataclass(frozen=True, slots=True)
class StagePlan:
    """How long and how fast a stage trains. `every` steps a line of the curve is written, each `save_s` seconds the state."""

    steps: int
    peak_rate: float
    every: int = 100
    save_s: float = 120.0
    seed: int = 0


def run(stage: Stage, plan: StagePlan, work: Path, say: Callable[[str], None] | None = None, replicas: Replicas = ALONE) -> bool:
    """Train until `plan.steps`; False if stopped before. Takes up `work/<stage>.pt` where there is one."""
    say = say or (lambda line: print(line, file=sys.stderr, flush=True))
    state_file = work / f"{stage.name}.pt"
    step, spent = resume(stage, state_file)
    replicas.agree([*stage.optimiser.master, *stage.optimiser.weights])
    score, losses, began, saved = AnswerScore(), [], time.perf_counter(), time.perf_counter()
    while step < plan.steps:
        rng = np.random.default_rng([plan.seed, step])
        torch.manual_seed(plan.seed * 1_000_003 + step)
        try:
            loss, hits = stage.step(rng, step / plan.steps)
            replicas.share(stage.optimiser.weights)
            stage.optimiser.step(rate_at(step, plan.steps, plan.peak_rate))
        except KeyboardInterrupt:
            if not replicas.leads:
                return False
            _save(stage, state_file, step, spent + time.perf_counter() - began)
            say(f"{stage.name}: stopped at step {step} of {plan.steps}; the same command goes on from here")
            return False
        step += 1
        if not replicas.leads:
            continue
        score.add(hits)
        losses.append(loss)
        if step % plan.every == 0 or step == plan.steps:
            seconds = spent + time.perf_counter() - began
            _note(work / "curve.jsonl", stage.name, step, seconds, float(np.mean(losses)), score)
            say(f"{stage.name} {step}/{plan.steps} {seconds:.0f}s loss {np.mean(losses):.3f} mean {score.mean():.3f} | {score.line()}")
            score, losses = AnswerScore(), []
        if time.perf_counter() - saved > plan.save_s or step == plan.steps:
            _save(stage, state_file, step, spent + time.perf_counter() - began)
            saved = time.perf_counter()
    return True


def resume(stage: Stage, file: Path) -> tuple[int, float]:
    """Put a saved state back; the steps and seconds it has behind it, zeros where there is none. Raises `OmnidropError` if unreadable."""
    if not file.exists():
        return 0, 0.0
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        stage.optimiser.load(state["optimiser"])
    except (ValueError, KeyError, RuntimeError, EOFError) as error:
        raise OmnidropError(f"{file}: cannot go on from this state ({error})", "delete it to start the stage again") from error
    return int(state["step"]), float(state["seconds"])


def settle(stage: Stage, work: Path) -> bool:
    """Put what `stage` hands on, the mean of its last weights, into its model; False where it has not been trained. Raises as `resume`."""
    trained = resume(stage, work / f"{stage.name}.pt")[0] > 0
    if trained:
        stage.optimiser.settle()
    return trained


def _save(stage: Stage, file: Path, step: int, seconds: float) -> None:
    """Whole or not at all: a kill or a full disk leaves the last state as it was."""
    try:
        with fileio.replacing(file) as part:
            torch.save({"optimiser": stage.optimiser.state(), "step": step, "seconds": seconds}, part)
    except (OSError, RuntimeError) as error:
        raise OmnidropError(
            f"{file}: cannot save the state ({error})", "free some space; the same command goes on from the last state"
        ) from error


def _note(file: Path, stage: str, step: int, seconds: float, loss: float, score: AnswerScore) -> None:
    kinds = {kind: round(score.right[kind] / asked, 4) for kind, asked in sorted(score.asked.items())}
    row = {"stage": stage, "step": step, "seconds": round(seconds, 1), "loss": round(loss, 4), "kinds": kinds}
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps(row) + "\n")
