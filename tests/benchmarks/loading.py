"""Loading a saved quantised copy against quantising the checkpoint again. Both must give the same weights to the bit."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidrop_cli.bench.device import device_name
from omnidrop_cli.bench.measurement import BenchReport, Group, alternate
from omnidrop_cli.bench.subprocess_run import Tell, Work, in_child
from omnidrop_cli.config import ModelConfig
from omnidrop_cli.errors import UsageError
from omnidrop_cli.events import SILENT, ProgressCallback

if TYPE_CHECKING:
    from omnidrop_cli.model.thinker import Thinker


def bench_load(choice: ModelConfig, *, repeats: int = 3, folder: Path | None = None, progress: ProgressCallback = SILENT) -> BenchReport:
    """`choice` names a checkpoint, or random weights, which are saved as one first. `folder` holds the files while they are needed.

    Raises `UsageError` where `choice` quantises nothing, `ModelError`.
    """
    from omnidrop_cli.model.load import load
    from omnidrop_cli.model.names import resolve
    from omnidrop_cli.model.quantize import save_quantized

    quant = "nf4" if choice.quant == "auto" else choice.quant
    if quant == "none":
        raise UsageError("--quant none leaves nothing to measure", "give nf4 or int8")
    with tempfile.TemporaryDirectory(dir=folder, prefix="omnidrop-bench-") as work:
        original, copy = choice.name, Path(work) / "copy"
        if resolve(choice).kind == "random":
            progress.stage("write", choice.name)
            original = str(Path(work) / "original")
            save_quantized(load(replace(choice, quant="none", dtype="bfloat16"), progress), Path(original))
        # A few layers are small enough for float32, but what they stand for is stored and loaded in bfloat16.
        choice = replace(choice, name=original, quant=quant, dtype="bfloat16" if choice.dtype == "auto" else choice.dtype)
        progress.stage("quantize", quant)
        thinker = load(choice, progress)
        device, loaded = device_name(thinker.device), thinker.loaded
        save_quantized(thinker, copy)
        del thinker
        progress.stage("load")
        choices = {"saved copy": replace(choice, name=str(copy)), "quantised again": choice}
        runs = {name: partial(in_child, _loading, one) for name, one in choices.items()}
        sizes = {"original_bytes": _size(resolve(choice).source), "copy_bytes": _size(str(copy))}
        group = Group(
            f"{loaded.num_layers} decoder layers, {quant}, {sizes['original_bytes'] / 1e9:.1f} GB", alternate(runs, repeats, progress)
        )
    return BenchReport("load", device, repeats, [group], ("torch", "transformers", "bitsandbytes"), sizes)


def _loading(choice: ModelConfig) -> Work:
    import bitsandbytes  # noqa: F401  # imports are no part of loading, and the same for both
    import transformers  # noqa: F401

    from omnidrop_cli.model.load import load

    def work() -> Tell:
        return partial(_facts, load(choice))

    return work


def _facts(thinker: Thinker) -> dict[str, Any]:
    """A digest of every number of the decoder's layers: weights, scales, scales of scales."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(thinker.adapter.layers.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    facts: dict[str, Any] = {"digest": digest.hexdigest()[:16]}
    if thinker.device.type == "cuda":
        facts["gpu_peak_mb"] = torch.cuda.max_memory_allocated(thinker.device) / 1e6
    return facts


def _size(directory: str) -> int:
    return sum(file.stat().st_size for file in Path(directory).rglob("*") if file.is_file())
