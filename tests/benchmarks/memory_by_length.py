"""Peak memory of a prefill against the clip's length, measured in a process of its own, and the estimate for the published checkpoints.

Encoders are left out: their inputs are bounded, so their peak does not grow. Computed figures are kept apart from measured ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from omnidrop_cli.bench.measurement import BenchReport, Group, Sample, alternate
from omnidrop_cli.bench.prefilling import label
from omnidrop_cli.bench.subprocess_run import Tell, Work, in_child
from omnidrop_cli.config import ModelConfig, PruningConfig
from omnidrop_cli.events import SILENT, ProgressCallback

if TYPE_CHECKING:
    from omnidrop_cli.engine.prefill import Prefilled
    from omnidrop_cli.model.thinker import Thinker

PATCHES_PER_PAIR = 18 * 32
"""A pair of frames in the papers' layout (`synthetic.py`)."""

COMPUTED_S = (60, 600)
"""Lengths for which the byte account is said."""


def bench_memory(
    model: ModelConfig,
    lengths_s: Sequence[float],
    choices: Sequence[PruningConfig],
    *,
    repeats: int = 1,
    progress: ProgressCallback = SILENT,
) -> BenchReport:
    """One group per clip length, one run per method. `peak_mb` less `before_mb` is what the prefill took on top of the weights."""
    import torch

    from omnidrop_cli.bench.device import device_name

    device = torch.device("cuda" if torch.cuda.is_available() and model.device != "cpu" else "cpu")
    groups = []
    for seconds in lengths_s:
        progress.stage("prefill", f"{seconds:g} s")
        runs: dict[str, Callable[[], Sample]] = {
            label(choice): partial(in_child, _prefilling, model, seconds, choice) for choice in choices
        }
        groups.append(Group(f"{seconds:g} s in the papers' layout", alternate(runs, repeats, progress)))
    progress.stage("account")
    return BenchReport(
        kind="memory",
        device=device_name(device),
        repeats=repeats,
        groups=groups,
        packages=("torch", "transformers", "bitsandbytes"),
        facts={"model": model.name},
        computed=[row for size in ("3b", "7b") for s in COMPUTED_S for choice in choices if (row := computed(size, s, choice)) is not None],
    )


def _prefilling(model: ModelConfig, seconds: float, choice: PruningConfig) -> Work:
    from omnidrop_cli.bench.synthetic import noise_features, papers_prompt
    from omnidrop_cli.engine.encode import embed
    from omnidrop_cli.engine.prefill import prefill
    from omnidrop_cli.model.load import load
    from omnidrop_cli.prune.methods import get_method

    thinker, method = load(model), get_method(choice)
    warm = papers_prompt(thinker, 2)
    features = noise_features(thinker, warm)
    prefill(thinker, warm, embed(thinker, warm, features), features, method)  # kernels' workspaces are no part of a prompt's cost
    prompt = papers_prompt(thinker, seconds)
    features = noise_features(thinker, prompt)

    def work() -> Tell:
        return partial(_facts, thinker, len(prompt), prefill(thinker, prompt, embed(thinker, prompt, features), features, method))

    return work


def _facts(thinker: Thinker, tokens: int, prefilled: Prefilled) -> dict[str, Any]:
    import torch

    lengths = prefilled.cache.lengths
    facts: dict[str, Any] = {
        "tokens": tokens,
        "rows": round(sum(lengths) / len(lengths)),
        "kv_mb": prefilled.cache.nbytes / 1e6,
        "computed_mb": without_weights(thinker, tokens, lengths),
    }
    if thinker.device.type == "cuda":
        facts["gpu_peak_mb"] = torch.cuda.max_memory_allocated(thinker.device) / 1e6
    return facts


def without_weights(thinker: Thinker, tokens: int, entering: Sequence[int]) -> float:
    """Megabytes that the byte account gives a prefill with the encoders' output at hand: to hold it against what was measured."""
    from omnidrop_cli.model.memory_estimate import guess
    from omnidrop_cli.model.sizes import ThinkerSizes

    sizes = ThinkerSizes.from_dict(thinker.model.config.to_dict())
    value_bytes = thinker.dtype.itemsize
    account = guess(sizes, thinker.loaded.quant, entering, value_bytes=value_bytes, prompt_tokens=tokens)
    return account.embeddings_mb + account.kv_mb + account.prefill_mb


def computed(size: str, seconds: float, choice: PruningConfig, quant: str = "nf4") -> Mapping[str, Any] | None:
    """The byte account (`model/memory_estimate.py`) of a published checkpoint: weights and cache exact, activations counted from the code.

    None for a method whose lengths cannot be counted without data.
    """
    from omnidrop_cli.model.memory_estimate import guess
    from omnidrop_cli.model.sizes import QWEN_3B, QWEN_7B

    sizes = {"3b": QWEN_3B, "7b": QWEN_7B}[size]
    try:
        entering = lengths_of(sizes.decoder.num_layers, seconds, choice)
    except RuntimeError:
        return None
    unpruned = lengths_of(1, seconds, PruningConfig("none"))[0]
    account = guess(
        sizes,
        quant,
        entering,
        video_patches=round(seconds) * PATCHES_PER_PAIR,
        audio_windows=round(seconds / 2),
        prompt_tokens=unpruned,
    )
    return {
        "model": size,
        "quant": quant,
        "seconds": seconds,
        "method": label(choice),
        "tokens": unpruned,
        "rows": round(sum(entering) / len(entering)),
        "weights_mb": account.weights_mb,
        "kv_mb": account.kv_mb,
        "embeddings_mb": account.embeddings_mb,
        "encoders_mb": account.encoders_mb,
        "prefill_mb": account.prefill_mb,
        "peak_mb": account.peak_mb,
    }


def lengths_of(layers: int, seconds: float, choice: PruningConfig) -> tuple[int, ...]:
    """How many tokens each of `layers` layers sees of a clip in the papers' layout, counted by a prefill without data.

    Raises `RuntimeError` for a method that reads values while it chooses, such as dash.
    """
    from omnidrop_cli.bench.synthetic import noise_features, papers_prompt
    from omnidrop_cli.engine.encode import embed
    from omnidrop_cli.engine.prefill import prefill
    from omnidrop_cli.model.random_weights import tiny_thinker
    from omnidrop_cli.prune.methods import get_method

    thinker = tiny_thinker(layers)
    prompt = papers_prompt(thinker, seconds)
    features = noise_features(thinker, prompt)
    thinker.model.to("meta")
    on_meta = {
        name: getattr(features, name).to("meta")
        for name in ("audio", "video", "audio_attention", "audio_attention_clip", "video_attention")
    }
    features = replace(features, **on_meta)
    return prefill(thinker, prompt, embed(thinker, prompt, features), features, get_method(choice)).cache.lengths
