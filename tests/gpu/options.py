"""Options that change decoding or attention, each against its default: prompt lookup, a quantised output matrix, flash_attn, `auto`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import takewhile
from statistics import median
from typing import TYPE_CHECKING
from unittest.mock import patch

import torch

from omnidrop_cli.bench.decoding import arrivals
from omnidrop_cli.bench.synthetic import papers_prompt
from omnidrop_cli.config import GenerationConfig, MediaConfig, ModelConfig, Request
from omnidrop_cli.engine import auto_model
from omnidrop_cli.engine.cuda_graph import CudaGraphRunner
from omnidrop_cli.engine.decode_step import read_together, step
from omnidrop_cli.engine.generate import Decoding
from omnidrop_cli.engine.prompt_lookup import LookupDecoding, conversation_text
from omnidrop_cli.engine.sampling import Sampler
from omnidrop_cli.model.clip_fit import ModelMemory, fit
from omnidrop_cli.model.cuda_capture import capture_on
from omnidrop_cli.model.gpu_memory import GpuMemory, gpu_memory
from omnidrop_cli.model.names import HUB_NAMES, resolve
from tests.gpu.decoder import prefiller
from tests.gpu.machine import Facts, Machine, choice

if TYPE_CHECKING:
    from omnidrop_cli.model.thinker import Thinker

WIDTH = 7
"""Most tokens that `prompt_lookup` drafts."""

HEADS = ("none", "int8", "nf4")
CARDS_GB = (8, 12, 16, 24, 48)


def lookup(machine: Machine, size: str, seconds: float, label: str, tokens: int = 96) -> Facts:
    """What a step costs by the tokens it reads, and answers with prompt lookup against the eager one.

    Noise repeats nothing, so that the answer's own tokens serve as an earlier answer: the best case. Without it nothing is ever drafted:
    the worst.
    """
    thinker = machine.thinker(size)
    prompt = papers_prompt(thinker, seconds)
    prefilled = prefiller(thinker, prompt)(label)
    lengths, ids = prefilled.cache.lengths, torch.from_numpy(prompt.input_ids).to(thinker.device)
    sampler, facts = Sampler(thinker, ids, GenerationConfig()), dict[str, object]()
    for rows in range(1, WIDTH + 2):
        times = []
        for _ in range(6):
            call = partial(read_together, thinker, prefilled.cache, [1] * rows, prefilled.next_position)
            times.append(machine.clock(call)[0])
            prefilled.cache.truncate(lengths)
        facts[f"step of {rows}"] = {"ms": round(median(times[1:]) * 1e3, 3)}
    answer: list[int] = []
    captured = CudaGraphRunner.of(thinker) if machine.cuda else None
    for name in ("eager", "captured", "lookup, answer known", "lookup, nothing known"):
        if name.startswith("lookup"):
            earlier = [answer] if name.endswith("answer known") else []
            decoding: Decoding | LookupDecoding = LookupDecoding(
                thinker, prefilled, sampler, tokens, WIDTH, conversation_text(thinker, ids, earlier)
            )
        else:
            decoding = Decoding(thinker, prefilled, sampler, tokens, captured if name == "captured" else None)
        stamps = arrivals(decoding, tokens)
        answer = answer or decoding.chosen[:tokens]
        prefilled.cache.truncate(lengths)
        facts[name] = {
            "tokens_per_s": round((tokens - 1) / (stamps[-1] - stamps[0]), 1),
            "same": sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(answer, decoding.chosen, strict=False))),
            "of": tokens,
            **({} if decoding.drafts is None else asdict(decoding.drafts)),
        }
    return facts


def heads(machine: Machine) -> Facts:
    """The output matrix of the 7B in each type: memory, milliseconds, and the likeliest token against bfloat16's for random rows."""
    facts: Facts = {}
    expected = None
    for quant in HEADS:
        machine.free()
        thinker = _shortened(machine, 1, quant_head=quant)
        noise = torch.randn(1, 256, thinker.sizes.hidden, generator=torch.Generator().manual_seed(1))
        rows = noise.to(thinker.device, thinker.dtype)
        with torch.inference_mode():
            logits = thinker.adapter.row_logits(rows)
            facts[quant] = {
                "weights_mb": round(thinker.weights_mb),
                "loading": machine.peak(),
                "eager_ms": _clocked(machine, partial(thinker.adapter.logits, rows)),
                "captured_ms": None if quant == "int8" else _clocked(machine, _captured(machine, thinker, rows)),
                "eight_rows_ms": _clocked(machine, partial(thinker.adapter.row_logits, rows[:, :8])),
            }
        expected = logits if expected is None else expected
        facts[quant] |= {
            "top1": round(float((logits.argmax(-1) == expected.argmax(-1)).float().mean()), 4),
            "error": float((logits - expected).norm() / expected.norm()),
        }
        del thinker, logits
    return facts


def _captured(machine: Machine, thinker: Thinker, rows: torch.Tensor) -> partial[object]:
    out = torch.empty(thinker.sizes.vocab, device=thinker.device)

    def call() -> None:
        out.copy_(thinker.adapter.logits(rows))

    capture = capture_on(thinker.device)
    return partial(call if capture is None else capture(call))


def _clocked(machine: Machine, call: partial[object]) -> float:
    call()
    return round(median([machine.clock(call, 10)[0] for _ in range(3)]) * 1e3, 4)


def _shortened(machine: Machine, layers: int, **options: str) -> Thinker:
    """A 7B of `layers` layers, random and in NF4."""
    if machine.tiny:
        from omnidrop_cli.model.quantize import quantize_head
        from omnidrop_cli.model.random_weights import tiny_thinker

        thinker = tiny_thinker(layers, 4, 2, 64)
        quantize_head(thinker.adapter, options.get("quant_head", "none"), "cpu")
        return thinker
    from omnidrop_cli.model.load import load

    given = ModelConfig(f"random:7b@{layers}layers", quant="nf4", device="cuda:0")
    return load(replace(given, **options))  # type: ignore[arg-type]


def flash(machine: Machine, seconds: float, labels: Sequence[str] = ("none", "omnidrop@0.3")) -> Facts:
    """Four layers of the 7B with flash_attn against SDPA, where it is installed: a prefill, a token, the distance of the logits."""
    try:
        facts: Facts = {"installed": version("flash_attn")}
    except PackageNotFoundError:
        return {"installed": None}
    expected: dict[str, torch.Tensor] = {}
    for attention in ("sdpa", "flash_attention_2"):
        machine.free()
        thinker = _shortened(machine, 4, attention=attention)
        run = prefiller(thinker, papers_prompt(thinker, seconds))
        for label in labels:
            run(label)
            warm, prefilled = machine.clock(partial(run, label))
            logits, exact = prefilled.logits, expected.setdefault(label, prefilled.logits)
            token = [machine.clock(partial(step, thinker, prefilled.cache, 1, prefilled.next_position + i))[0] for i in range(5)]
            facts[f"{attention}, {label}"] = {
                "warm_s": round(warm, 4),
                "token_ms": round(median(token) * 1e3, 3),
                "error": float((logits - exact).norm() / exact.norm()),
                "same_token": bool(logits.argmax() == exact.argmax()),
            }
        del thinker
    return facts


def auto(machine: Machine) -> Facts:
    """What `auto` takes for clips of a minute, ten minutes and an hour on cards of several sizes, and what the driver says of this one."""
    facts: Facts = {"driver": None if (found := gpu_memory(0)) is None else asdict(found)}
    if machine.cuda:
        facts["torch"] = dict(zip(("free", "total"), torch.cuda.mem_get_info(0), strict=True))
        own = facts["torch"]["total"] / 1e9
    for gigabytes in (*CARDS_GB, *([round(own, 1)] if machine.cuda else [])):
        memory = GpuMemory(free=int(gigabytes * 1e9), total=int(gigabytes * 1e9))
        facts[f"{gigabytes} GB"] = {
            f"{seconds // 60} min, {label}": _auto_takes(memory, seconds, label)
            for seconds in (60, 600, 3600)
            for label in ("omnidrop@0.3", "none")
        }
    return facts


def _auto_takes(memory: GpuMemory, seconds: int, label: str) -> str:
    """The checkpoint, and how it fits."""
    request = Request("clip.mp4", "?", method=choice(label), model=ModelConfig("auto"))
    options = resolve(ModelConfig("7b")).frame_bounds.fill(MediaConfig())
    media = round(min(seconds, options.max_frames / options.fps) * 144 + 25 * seconds)
    with (
        patch("omnidrop_cli.model.names.gpu_memory", lambda _: memory),
        patch.object(auto_model, "_media_tokens", lambda *_: media),
        patch.object(auto_model, "_fetched", lambda *_: []),
    ):
        name = auto_model.for_clip(request)[0].model.name
        name = resolve(ModelConfig()).name if name == "auto" else name
    sizes = resolve(ModelConfig(name)).sizes
    if sizes is None or name not in HUB_NAMES:
        return name
    needed = ModelMemory(sizes, "nf4", options).of_tokens(media, request.method.keep or 1.0)
    return f"{name}, {needed.peak_mb / 1000:.1f} GB: {fit(needed, memory.free)}"


def estimate(thinker: Thinker, media_tokens: int, label: str, free_bytes: float) -> Facts:
    """What the estimate says of a clip that is measured: megabytes with the driver's context, and whether it fits."""
    options = thinker.frame_bounds.fill(MediaConfig())
    needed = ModelMemory(thinker.all_sizes, thinker.loaded.quant, options).of_tokens(media_tokens, choice(label).keep or 1.0)
    return {"estimated_mb": round(needed.peak_mb), "waiting_mb": round(needed.waiting_peak_mb), "fits": fit(needed, free_bytes)}
