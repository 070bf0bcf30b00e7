"""One bench: a model, a prompt, arms, towers and the floor, in one process, as one JSON-ready record.

Knows: the order of the measurements and what must stand beside a figure (device, versions, date). Does not know: terminals.
"""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from omnidrop_cli.bench.decoding import DecodeResult, measure_decoding
from omnidrop_cli.bench.encoders import TowerResult, measure_towers
from omnidrop_cli.bench.floor import Floor, measure_floor
from omnidrop_cli.bench.prefill import ArmResult, measure_arms
from omnidrop_cli.bench.synthetic import noise_features, papers_prompt
from omnidrop_cli.config import PruningConfig, Request
from omnidrop_cli.events import SILENT, Observer
from omnidrop_cli.outputs import Counts, LoadedModel
from omnidrop_cli.prune.methods import create

if TYPE_CHECKING:
    from omnidrop_cli.engine.encode import MediaFeatures
    from omnidrop_cli.engine.session import Session
    from omnidrop_cli.outputs import Prompt

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Everything one bench measured. `towers` and `decoding` are empty where they were not asked for."""

    date: str
    device: str
    versions: dict[str, str]
    model: LoadedModel
    prompt_of: str
    prompt: Counts
    repeats: int
    floor: Floor
    arms: list[ArmResult]
    towers: list[TowerResult]
    decoding: list[DecodeResult]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with the ratios a reader wants."""
        body = asdict(self)
        for stored, tower in zip(body["towers"], self.towers, strict=True):
            stored |= {"speedup": tower.speedup, "over_products": tower.over_products}
        return {"schema": SCHEMA, **body}


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What to measure, each so many times. Where `tower_s` is positive, also both towers on that much noise; where `decode` is, so many
    answer tokens on every road."""

    choices: list[PruningConfig]
    repeats: int = 3
    tower_s: float = 0.0
    decode: int = 0


def bench_synthetic(session: Session, seconds: float, plan: BenchPlan, observer: Observer = SILENT) -> BenchResult:
    """`seconds` of video with sound in the papers' layout."""
    thinker = session.thinker
    prompt = papers_prompt(thinker, seconds)
    return _bench(session, f"{seconds:g} s in the papers' layout", prompt, noise_features(thinker, prompt), plan, observer)


def bench_clip(session: Session, job: Request, plan: BenchPlan, observer: Observer = SILENT) -> BenchResult:
    """A real clip and question through the real towers."""
    needs = frozenset().union(*(create(choice).needs for choice in plan.choices))
    read = session.read(job, observer, needs=needs)
    return _bench(session, job.media, read.prompt, read.features, plan, observer)


def _bench(session: Session, prompt_of: str, prompt: Prompt, features: MediaFeatures, plan: BenchPlan, observer: Observer) -> BenchResult:
    thinker = session.thinker
    observer.stage("floor")
    floor = measure_floor(thinker.device, thinker.dtype, hidden=thinker.sizes.hidden, wide=thinker.sizes.mlp)
    observer.stage("prefill", f"{len(prompt)} tokens")
    arms = measure_arms(thinker, prompt, features, plan.choices, floor, repeats=plan.repeats, observer=observer)
    decoding = []
    if plan.decode > 0:
        observer.stage("generate")
        decoding = measure_decoding(thinker, prompt, features, plan.choices, tokens=plan.decode, repeats=plan.repeats, observer=observer)
    observer.stage("towers")
    towers = measure_towers(thinker, plan.tower_s, plan.repeats) if plan.tower_s > 0 else []
    return BenchResult(
        date=date.today().isoformat(),
        device=device_name(thinker.device),
        versions={name: version(name) for name in ("torch", "transformers", "bitsandbytes")},
        model=thinker.loaded,
        prompt_of=prompt_of,
        prompt=prompt.token_map.counts(),
        repeats=plan.repeats,
        floor=floor,
        arms=arms,
        towers=towers,
        decoding=decoding,
    )


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's architecture with the threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
