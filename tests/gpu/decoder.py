"""The decoder on noise in the papers' layout: prefill cold and warm, selection, answer tokens, waits, kernels, picks."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar
from unittest.mock import patch

import torch

from omnidrop_cli.bench.decoding import arrivals, uncaptured
from omnidrop_cli.bench.synthetic import noise_features, papers_prompt
from omnidrop_cli.config import GenerationConfig
from omnidrop_cli.engine.cuda_graph import CudaGraphRunner
from omnidrop_cli.engine.decode_step import step
from omnidrop_cli.engine.encode import embed
from omnidrop_cli.engine.generate import Decoding
from omnidrop_cli.engine.prefill import Prefilled, prefill
from omnidrop_cli.engine.row_step import readable_layers
from omnidrop_cli.engine.sampling import Sampler
from omnidrop_cli.model.memory_estimate import QUANTIZED_BYTES, decoder_bytes
from omnidrop_cli.prune.methods import get_method, names
from omnidrop_cli.prune.state import PruningState
from tests.gpu.machine import Facts, Machine, Mark, choice

if TYPE_CHECKING:
    from omnidrop_cli.model.thinker import Thinker
    from omnidrop_cli.outputs import Prompt

T = TypeVar("T")

METHODS = ("none", "omnidrop@0.3", "omnidrop@0.2", "omnidrop@0.1", "omniblend@0.3", "seats@0.3", "omnizip@0.3", "fastv@0.3")
OTHERS = tuple(f"{name}@0.3" for name in names() if name not in {label.partition("@")[0] for label in METHODS})
"""The other methods, once each."""

TAIL = 40
"""Last tokens of an answer, whose mean is the time per token once under way."""


def prefiller(thinker: Thinker, prompt: Prompt) -> Callable[[str], Prefilled]:
    """A function that prefills `prompt` under a method, given as `NAME@KEEP`."""
    features = noise_features(thinker, prompt)
    return lambda label: prefill(thinker, prompt, embed(thinker, prompt, features), features, get_method(choice(label)))


def prefills(machine: Machine, size: str, seconds: float, methods: Sequence[str] = METHODS, repeats: int = 3) -> Facts:
    """Seconds of a prefill the first time ever at its lengths and afterwards, of selecting tokens in it, and of the first three eager
    steps; the memory peak."""
    thinker = machine.thinker(size)
    thinker.adapter.place_encoders(thinker.device)  # an answer on a small card has sent them away; they count in every peak
    prompt = papers_prompt(thinker, seconds)
    run = prefiller(thinker, prompt)
    prefiller(thinker, papers_prompt(thinker, 2))("none")  # loads libraries, at other lengths
    facts: Facts = {"tokens": len(prompt)}
    for label in methods:
        if machine.left_s < 25:
            facts[label] = "no time left"
            continue
        machine.free()
        try:
            cold, prefilled = machine.clock(partial(run, label))
        except torch.OutOfMemoryError as error:
            facts[label] = f"out of memory: {str(error)[:100]}"
            continue
        peak, lengths = machine.peak(), prefilled.cache.lengths
        steps = [machine.clock(partial(step, thinker, prefilled.cache, 1, prefilled.next_position + i))[0] for i in range(3)]
        del prefilled
        warm = [machine.clock(partial(run, label))[0] for _ in range(repeats if cold < 20 else 0)]
        facts[label] = {
            "cold_s": round(cold, 4),
            "warm_s": [round(value, 4) for value in warm],
            "first_steps_s": [round(value, 4) for value in steps],
            "mean_rows": round(sum(lengths) / len(lengths)),
            "distinct_lengths": len(set(lengths)),
            **({} if label == "none" else selection(machine, partial(run, label))),
            **peak,
        }
    return facts


def selection(machine: Machine, prefilling: Callable[[], object]) -> Facts:
    """Seconds that one more prefill spends on choosing tokens before and inside the decoder and on dropping the others, by the device's
    clock. Waits for the host count, where the device has nothing to do meanwhile."""
    inside = {"input_s": list[tuple[Mark, Mark]](), "layers_s": list[tuple[Mark, Mark]]()}

    def marked(original: Callable[..., T], pairs: list[tuple[Mark, Mark]]) -> Callable[..., T]:
        def call(*args: Any) -> T:
            before = machine.mark()
            result = original(*args)
            pairs.append((before, machine.mark()))
            return result

        return call

    with (
        patch.object(PruningState, "start", marked(PruningState.start, inside["input_s"])),
        patch.object(PruningState, "after_layer", marked(PruningState.after_layer, inside["layers_s"])),
    ):
        prefilling()
    machine.synchronise()
    return {f"select_{name}": round(sum(machine.between(*pair) for pair in pairs), 5) for name, pairs in inside.items()}


def decoding(machine: Machine, size: str, seconds: float, methods: Sequence[str], tokens: int = 96) -> Facts:
    """An answer as a user gets it, eagerly and by a captured graph, twice: milliseconds of every kind of token."""
    thinker = machine.thinker(size)
    prompt = papers_prompt(thinker, seconds)
    run, facts = prefiller(thinker, prompt), dict[str, object]()
    captured = CudaGraphRunner.of(thinker) if machine.cuda else CudaGraphRunner(uncaptured)
    for label in methods:
        prefilled = run(label)
        for backend, runner in (("eager", CudaGraphRunner()), ("graph", captured)):
            for attempt in ("cold", "warm"):
                machine.free()
                facts[f"{label}, {backend}, {attempt}"] = _answer(machine, thinker, prompt, prefilled, runner, tokens)
        del prefilled
    return facts


def _answer(machine: Machine, thinker: Thinker, prompt: Prompt, prefilled: Prefilled, runner: CudaGraphRunner, tokens: int) -> Facts:
    lengths, notices = prefilled.cache.lengths, list[str]()
    ids = torch.from_numpy(prompt.input_ids).to(thinker.device)
    decoding = Decoding(thinker, prefilled, Sampler(thinker, ids, GenerationConfig()), tokens, runner, notices.append)
    stamps = arrivals(decoding, tokens)
    chosen = decoding.chosen[:12]
    prefilled.cache.truncate(lengths)
    waits = [round((after - before) * 1e3, 2) for before, after in pairwise(stamps)]
    return {
        "answer_s": round(stamps[-1] - stamps[0], 3),
        "first_ms": waits[:8],
        "tail_ms": round(sum(waits[-TAIL:]) / len(waits[-TAIL:]), 3),
        "slowest_ms": max(waits),
        "notices": notices,
        "tokens": chosen,
        "read_mb": round(read_mb(thinker, lengths), 1),
        **machine.peak(),
    }


def read_mb(thinker: Thinker, lengths: Sequence[int]) -> float:
    """Megabytes that one token must read: the decoder's weights, the output matrix, keys and values of `lengths` rows."""
    loaded, sizes = thinker.loaded, thinker.all_sizes
    value_bytes = thinker.dtype.itemsize
    head = sizes.decoder.vocab * sizes.decoder.hidden * (value_bytes if loaded.quant_head == "none" else QUANTIZED_BYTES[loaded.quant_head])
    rows = sum(sizes.decoder.kv_bytes(length, value_bytes) for length in lengths)
    return (decoder_bytes(sizes, loaded.quant, value_bytes) + head + rows) / 1e6


def waits(machine: Machine, size: str, seconds: float) -> Facts:
    """Places where a prefill and three eager steps wait for the device, of every method."""
    thinker = machine.thinker(size)
    run, facts = prefiller(thinker, papers_prompt(thinker, seconds)), dict[str, object]()
    for label in METHODS:
        run(label)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            if machine.cuda:
                torch.cuda.set_sync_debug_mode("warn")
            prefilled = run(label)
            in_prefill = len(found)
            for i in range(3):
                step(thinker, prefilled.cache, 1, prefilled.next_position + i)
            if machine.cuda:
                torch.cuda.set_sync_debug_mode("default")
        places = Counter(f"{Path(one.filename).name}:{one.lineno}" for one in found)
        facts[label] = {"prefill": in_prefill, "three_steps": len(found) - in_prefill, "where": dict(places.most_common(12))}
    return facts


def profile(machine: Machine, size: str, seconds: float) -> Facts:
    """Kernels of a prefill, an eager step and a replayed step: how many, how long busy, which ones most."""
    from omnidrop_cli.engine.decode_step import StaticDecode

    thinker = machine.thinker(size)
    run, facts = prefiller(thinker, papers_prompt(thinker, seconds)), dict[str, object]()
    for label in ("none", "omnidrop@0.1"):
        prefilled = run(label)
        facts[f"{label}, prefill"] = _kernels(machine, partial(run, label))
        facts[f"{label}, step"] = _kernels(machine, partial(step, thinker, prefilled.cache, 1, prefilled.next_position))
        static = StaticDecode(thinker, prefilled.cache, 1, prefilled.next_position, 64, readable_layers(thinker))
        capture = CudaGraphRunner.of(thinker).capture or uncaptured
        facts[f"{label}, replay"] = _kernels(machine, capture(static.step))
    return facts


def _kernels(machine: Machine, call: Callable[[], object]) -> Facts:
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    call()
    wall, _ = machine.clock(call)
    activities = [ProfilerActivity.CUDA] if machine.cuda else [ProfilerActivity.CPU]
    with profiled(activities=activities) as record:
        call()
        machine.synchronise()
    field = "self_device_time_total" if machine.cuda else "self_cpu_time_total"
    events = sorted((e for e in record.key_averages() if getattr(e, field) > 0), key=lambda e: -getattr(e, field))
    return {
        "wall_ms": round(wall * 1e3, 2),
        "busy_ms": round(sum(getattr(event, field) for event in events) / 1e3, 2),
        "kernels": sum(event.count for event in events),
        "most": [(event.key[:90], event.count, round(getattr(event, field) / 1e3, 3)) for event in events[:16]],
    }


def picks(machine: Machine, window: int, groups: int, keep: float) -> Facts:
    """Seconds of greedy max-min selection over `groups` windows of `window` tokens with 3,584 values each."""
    from omnidrop_cli.prune.diversity import max_min
    from omnidrop_cli.prune.groups import Segments

    features = torch.randn(window * groups, 3584 if machine.cuda else 32, device=machine.device, dtype=torch.bfloat16)
    number = torch.arange(groups).repeat_interleave(window).tolist()
    counts = [max(1, round(keep * window))] * groups
    machine.free()
    call = partial(max_min, features, Segments(tuple(number), (window,) * groups), counts)
    cold, _ = machine.clock(call)
    return {
        "picks": sum(counts),
        "cold_s": round(cold, 4),
        "warm_s": round(median([machine.clock(call)[0] for _ in range(3)]), 4),
        **machine.peak(),
    }
