"""Whole answers: random 7B and 3B under memory caps, nano on the GPU against the CPU, the tests marked `gpu`, the package's other tests."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from omnidrop_cli.config import GenerationConfig, ModelConfig, Request
from omnidrop_cli.engine.session import Session
from omnidrop_cli.nano.world.demo_clips import QUESTIONS as DEMO_QUESTIONS
from omnidrop_cli.outputs import Clip, SourceFacts
from omnidrop_cli.prune.methods import names
from tests.gpu.machine import Facts, Machine, choice
from tests.gpu.options import WIDTH, estimate

ROOT = Path(__file__).parents[2]
QUESTIONS = ("what is said?", "what is shown at the end?")
DEMO = tuple(one.question for one in DEMO_QUESTIONS if one.clip == "demo")[:5]


def asks(machine: Machine, size: str, seconds: float, label: str, *, cap_gb: float | None = None, tokens: int = 24) -> Facts:
    """Two questions about a decoded clip of noise, on a card of `cap_gb` (1e9 bytes) if given: seconds and peak."""
    session, clip = Session(machine.thinker(size)), noise_clip(machine, seconds)
    facts: Facts = {"cap_gb": cap_gb}
    with capped(machine, cap_gb):
        for question in QUESTIONS:
            machine.free()
            request = Request("noise.mp4", question, method=choice(label), generation=GenerationConfig(max_new_tokens=tokens))
            report = session.run(request, clips=(clip,))
            timings = report.timings
            facts[question] = {
                "encode_s": timings.encode_s,
                "prefill_s": timings.prefill_s,
                "generate_s": timings.generate_s,
                "prompt_tokens": report.prompt.total,
                "answer_tokens": len(report.answer.token_ids),
                "peak_mb": round(report.memory.peak_mb),
                "warnings": list(report.warnings),
                **machine.peak(),
            }
            counts = report.prompt
    free = cap_gb * 1e9 if cap_gb is not None else torch.cuda.mem_get_info(0)[1] if machine.cuda else 0
    facts["estimate"] = estimate(session.thinker, counts.audio + counts.video, label, free)
    facts["limits"] = str(session.limits)
    return facts


def noise_clip(machine: Machine, seconds: float) -> Clip:
    """Random frames at 2 a second (at most 768) and random sound."""
    generator = np.random.default_rng(0)
    height, width = (252, 448) if machine.cuda else (56, 112)
    frames = min(768, int(2 * seconds))
    return Clip(
        source=SourceFacts("noise.mp4", "mp4", 0, seconds, None, None),
        frames=generator.integers(0, 256, (frames, 3, height, width), dtype=np.uint8),
        frame_times_s=np.arange(frames) * seconds / frames,
        fps=frames / seconds,
        waveform=generator.standard_normal(int(16_000 * seconds)).astype(np.float32) * 0.1,
        start_s=0.0,
        duration_s=float(seconds),
    )


@contextmanager
def capped(machine: Machine, gigabytes: float | None) -> Iterator[None]:
    """The GPU as if it had `gigabytes` (1e9 bytes)."""
    if gigabytes is None or machine.tiny:
        yield
        return
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info(machine.device)[1]
    torch.cuda.set_per_process_memory_fraction(min(1.0, gigabytes * 1e9 / total), machine.device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, machine.device)


def nano_answers(machine: Machine) -> Facts:
    """Nano's answers about the demo clip against the CPU's in float32, under every method: real frames, real encoders, trained weights."""
    settings = [("cpu float32", ModelConfig("nano", device="cpu", dtype="float32", feature_cache=False))]
    if machine.cuda:
        for dtype, graph in (("float32", False), ("float32", True), ("bfloat16", True)):
            label = f"gpu {dtype}{', graph' if graph else ''}"
            settings.append((label, ModelConfig("nano", device="cuda:0", dtype=dtype, graph=graph, feature_cache=False)))
    return _compared([(label, config, names(), 0) for label, config in settings])


def nano_options(machine: Machine) -> Facts:
    """Nano's answers with prompt lookup, and with a quantised output matrix, against those without, eagerly."""
    device, dtype = str(machine.device), "bfloat16" if machine.cuda else "float32"
    plain = ModelConfig("nano", device=device, dtype=dtype, graph=False, feature_cache=False)
    methods = ("none", "omnidrop") if machine.cuda else ("omnidrop",)
    lookup = [("plain", plain, methods, 0), (f"lookup of {WIDTH}", plain, methods, WIDTH)]
    return _compared([*lookup, *((f"{quant} output matrix", replace(plain, quant_head=quant), methods, 0) for quant in ("int8", "nf4"))])


def _compared(runs: Sequence[tuple[str, ModelConfig, Sequence[str], int]]) -> Facts:
    """Answers of every run of (label, model, methods, tokens drafted) against those of the first."""
    answers: dict[str, dict[str, object]] = {}
    facts: Facts = {}
    for label, config, methods, drafted in runs:
        session = Session.load(config)
        start = time.perf_counter()
        answers[label] = {f"{method}: {question}": _nano(session, method, question, drafted) for question in DEMO for method in methods}
        facts[label] = {"seconds": round(time.perf_counter() - start, 2)}
    expected = answers[runs[0][0]]
    facts |= {"asked": len(expected), "errors": [value for value in expected.values() if isinstance(value, str)][:5]}
    for label, found in list(answers.items())[1:]:
        differ = [key for key, value in found.items() if value != expected[key]]
        facts[label] |= {"same": len(found) - len(differ), "differ": {key: (expected[key], found[key]) for key in differ[:12]}}
    return facts


def _nano(session: Session, method: str, question: str, drafted: int) -> object:
    keep = None if method == "none" else 0.3
    try:
        report = session.ask("demo", question, method=method, keep=keep, max_new_tokens=40, prompt_lookup=drafted)
    except Exception as error:  # a method that fails on this device is a result
        return f"{type(error).__name__}: {error}"[:200]
    return list(report.answer.token_ids)


def int8_random(machine: Machine) -> Facts:
    """A random model in LLM.int8: bytes per weight, before and after the first product."""
    from omnidrop_cli.model.random_weights import tiny_thinker

    thinker = tiny_thinker(2, 4, 2, 64, device=str(machine.device), dtype=torch.bfloat16, quant="int8")
    weight = thinker.adapter.linears(0)["up"].weight
    return {"dtype": str(weight.dtype), "bytes_per_weight": weight.element_size(), "weights_mb": thinker.weights_mb}


def pytest_run(*arguments: str, timeout_s: float = 150) -> Facts:
    """Exit code and last lines of a pytest run."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--timeout", "120", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        return {"rc": None, "tail": ((error.stdout or b"")[-2000:]).decode(errors="replace")}
    text = (done.stdout + done.stderr).replace(f"{ROOT}/", "")  # the file is published
    return {"rc": done.returncode, "tail": text[-3500:]}
