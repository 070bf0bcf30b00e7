"""`bench prefill`: one model, one prompt, every method; decoding and encoders where asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omnidrop_cli.bench.decoding import measure_decoding
from omnidrop_cli.bench.device import device_name
from omnidrop_cli.bench.encoders import measure_encoders
from omnidrop_cli.bench.floor import Floor, measure_floor
from omnidrop_cli.bench.measurement import BenchReport
from omnidrop_cli.bench.prefilling import measure_prefill
from omnidrop_cli.bench.synthetic import noise_features, papers_prompt
from omnidrop_cli.config import PruningConfig, Request
from omnidrop_cli.engine.encoded_prompt import PromptSource
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.prune.methods import get_method

if TYPE_CHECKING:
    from omnidrop_cli.engine.encode import MediaFeatures
    from omnidrop_cli.engine.session import Session
    from omnidrop_cli.model.thinker import Thinker
    from omnidrop_cli.outputs import Prompt


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What to measure, and how often.

    Args:
        choices: The pruning methods; the unpruned prefill is always measured.
        repeats: Measurements per run behind the cold one.
        encoder_s: Seconds of noise for both encoders; 0 leaves them out.
        decode: Answer tokens to decode with every backend; 0 leaves decoding out.
    """

    choices: Sequence[PruningConfig]
    repeats: int = 3
    encoder_s: float = 0.0
    decode: int = 0


def bench_synthetic(session: Session, seconds: float, plan: BenchPlan, progress: ProgressCallback = SILENT) -> BenchReport:
    """Measure on `seconds` of noise in the papers' layout."""
    thinker = session.thinker
    prompt = papers_prompt(thinker, seconds)
    return _bench(session, f"{seconds:g} s in the papers' layout", prompt, noise_features(thinker, prompt), plan, progress)


def bench_clip(session: Session, request: Request, plan: BenchPlan, progress: ProgressCallback = SILENT) -> BenchReport:
    """Measure on a clip and a question. Raises `OmnidropError`."""
    needs = frozenset().union(*(get_method(choice).needs for choice in plan.choices))
    read = session.encode(PromptSource(request, needs=needs), progress)
    return _bench(session, request.media, read.prompt, read.features, plan, progress)


def _bench(
    session: Session, prompt_of: str, prompt: Prompt, features: MediaFeatures, plan: BenchPlan, progress: ProgressCallback
) -> BenchReport:
    thinker, repeats = session.thinker, plan.repeats
    progress.stage("floor")
    floor = measure_floor(thinker.device, thinker.dtype, hidden=thinker.sizes.hidden, wide=thinker.sizes.mlp)
    progress.stage("prefill", f"{len(prompt)} tokens")
    groups = [measure_prefill(thinker, prompt, features, plan.choices, floor, repeats=repeats, progress=progress)]
    if plan.decode > 0:
        progress.stage("generate")
        groups.append(measure_decoding(thinker, prompt, features, plan.choices, tokens=plan.decode, repeats=repeats, progress=progress))
    if plan.encoder_s > 0:
        progress.stage("encode")
        groups += measure_encoders(thinker, papers_prompt(thinker, plan.encoder_s), repeats=repeats, progress=progress)
    return BenchReport(
        kind="prefill",
        device=device_name(thinker.device),
        repeats=repeats,
        groups=groups,
        packages=("torch", "transformers", "bitsandbytes"),
        facts={"prompt": prompt_of, **_prompt_facts(prompt), **_model_facts(thinker), **_floor_facts(floor)},
    )


def _prompt_facts(prompt: Prompt) -> dict[str, Any]:
    counts = prompt.token_map.counts()
    return {"tokens": counts.total, "video_tokens": counts.video, "audio_tokens": counts.audio}


def _model_facts(thinker: Thinker) -> dict[str, Any]:
    loaded = thinker.loaded
    names = ("quant", "quant_head", "dtype")
    return {"model": loaded.name, **{name: getattr(loaded, name) for name in names}, "layers": loaded.num_layers}


def _floor_facts(floor: Floor) -> dict[str, Any]:
    return {"matmul_tflop_per_s": floor.matmul_flops / 1e12, "copy_gb_per_s": floor.copy_bytes / 1e9}
