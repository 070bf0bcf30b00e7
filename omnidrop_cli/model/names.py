"""Names of models: what a user may write, and what each name means.

The built-in model, the two published checkpoints with their sizes, hub repositories, directories and random weights. Does not import
torch: resolving a name costs little, so the clip can decode while the model loads.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from omnidrop_cli import paths
from omnidrop_cli.config import MediaConfig
from omnidrop_cli.errors import ModelError, UsageError
from omnidrop_cli.model.clip_fit import ModelMemory, spoken_length
from omnidrop_cli.model.gpu_memory import GpuMemory, gpu_memory
from omnidrop_cli.model.sizes import MAX_LAYERS, QWEN_3B, QWEN_7B, ThinkerSizes
from omnidrop_cli.model.stored_config import read_config, read_json, sizes_of, thinker_section
from omnidrop_cli.outputs import FrameBounds
from omnidrop_cli.suggest import did_you_mean

if TYPE_CHECKING:
    from omnidrop_cli.config import ModelConfig


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model by name, before anything is loaded.

    `source` is a directory, a hub repository, or "random weights". `sizes` is None where only the checkpoint's own configuration
    tells. `reasons` say how `auto` was settled; `notice` is what a user must know about the answers.
    """

    name: str
    kind: Literal["builtin", "hub", "directory", "random"]
    source: str
    frame_bounds: FrameBounds
    sizes: ThinkerSizes | None = None
    reasons: tuple[str, ...] = ()
    notice: str | None = None


QWEN_BOUNDS = FrameBounds(128 * 28 * 28, 144 * 28 * 28)
"""128 to 144 tokens a frame pair: what the papers run (methods of SEATS, OmniZip and OmniDrop use the same)."""

RANDOM_NOTICE = "random weights: time and memory are real, answers are noise"

_IMAGE_BOUND = 768 * 28 * 28
"""Most pixels Qwen's tools give one video frame. A larger bound in a checkpoint's files is meant for single images."""

BUILT_IN = "built in"
"""`LoadedModel.source` of the package's own model."""

NANO_DIRECTORY = Path(__file__).parent.parent / "nano" / "assets"

_HUB = {"7b": ("Qwen/Qwen2.5-Omni-7B", QWEN_7B), "3b": ("Qwen/Qwen2.5-Omni-3B", QWEN_3B)}

HUB_NAMES = {name: source for name, (source, _) in _HUB.items()}
"""Short names of hub repositories."""
_RANDOM = {"7b": QWEN_7B, "3b": QWEN_3B}

NAMES = ("auto", "nano", *_HUB, *(f"random:{name}" for name in _RANDOM))
"""Every name that is not a directory or a hub repository; `random:…@Nlayers` shortens the decoder."""

AUTO_KEEP = 0.3
"""Retention ratio of a method that is given none."""

AUTO_BYTES = {"7b": 10.6e9, "3b": 7.3e9}
"""Free memory from which `auto` takes a checkpoint in NF4: weights, a minute of video without pruning and the driver's context, as measured
on an H100 (10.0 and 6.7 GB without the context, docs/results/gpu.md)."""


def resolve(choice: ModelConfig) -> ModelSpec:
    """What `choice.name` stands for. Looks at the disk and, for `auto`, at the GPU's free memory; never at the network.

    Raises `UsageError` for a name that means nothing, `ModelError` for a directory that holds no checkpoint.
    """
    name = choice.name.strip()
    if name == "auto":
        return _auto(choice.device)
    if name == "nano":
        return _nano()
    if name in _HUB:
        source, sizes = _HUB[name]
        return ModelSpec(name, "hub", source, QWEN_BOUNDS, sizes)
    if name.startswith("random:"):
        return _random(name)
    path = Path(os.path.expanduser(name))
    if name and path.is_dir():
        return _directory(name, path)
    if re.fullmatch(r"[\w-][\w.-]*", name) and (copy := paths.models() / name).is_dir():
        return _directory(name, copy)
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) and not name.endswith((".safetensors", ".gguf")):
        known = {source.lower(): sizes for source, sizes in _HUB.values()}
        return ModelSpec(name, "hub", name, QWEN_BOUNDS, known.get(name.lower()))
    if path.is_file():
        raise ModelError(f"{name} is a file, not a model directory", "give the directory that holds config.json and the weights")
    if "/" in name or name.startswith((".", "~")):
        raise ModelError(f"there is no directory {name}", "give a directory with config.json, or a hub repository as owner/name")
    hint = f"one of {', '.join(NAMES)}, a hub repository (owner/name), a directory, or a quantised copy"
    raise UsageError(f"unknown model {name!r}", did_you_mean(name.lower(), NAMES, hint))


def _nano() -> ModelSpec:
    if not (NANO_DIRECTORY / "config.json").is_file():
        raise ModelError("this installation has no built-in model", "reinstall omnidrop-cli, or give `model=3b`, 7b or a directory")
    return replace(_directory("nano", NANO_DIRECTORY), kind="builtin")


def _directory(name: str, path: Path) -> ModelSpec:
    thinker = thinker_section(read_config(path), str(path))
    return ModelSpec(name, "directory", str(path), _bounds(path), sizes_of(thinker, str(path)))


def _bounds(path: Path) -> FrameBounds:
    stored = read_json(path / "preprocessor_config.json") or {}
    least, most = stored.get("min_pixels"), stored.get("max_pixels")
    if isinstance(least, int) and isinstance(most, int) and 0 < least <= most <= _IMAGE_BOUND:
        return FrameBounds(least, most)
    return QWEN_BOUNDS


def _random(name: str) -> ModelSpec:
    match = re.fullmatch(r"random:(\w+)(?:@(\d+)layers?)?", name)
    layers = int(match[2][:9]) if match and match[2] else None
    if match is None or match[1] not in _RANDOM or (layers is not None and not 1 <= layers <= MAX_LAYERS):
        raise UsageError(f"unknown model {name!r}", "random weights are random:7b or random:3b, shortened as in random:7b@4layers")
    sizes = _RANDOM[match[1]]
    if layers is not None:
        sizes = replace(sizes, decoder=replace(sizes.decoder, num_layers=layers))
    return ModelSpec(name, "random", "random weights", QWEN_BOUNDS, sizes, notice=RANDOM_NOTICE)


# ---------------------------------------------------------------- auto


def auto_candidates(device: str) -> tuple[GpuMemory | None, tuple[str, ...]]:
    """Memory of the GPU that `device` means, None without one; the checkpoints that fit it with a minute of video, largest first."""
    number = device.partition(":")[2]
    memory = None if device == "cpu" else gpu_memory(int(number) if number.isdecimal() else 0)
    return memory, tuple(name for name, needed in AUTO_BYTES.items() if memory is not None and memory.free >= needed)


def _auto(device: str) -> ModelSpec:
    memory, candidates = auto_candidates(device)
    if memory is not None and candidates:
        name = candidates[0]
        source, sizes = _HUB[name]
        longest_s = ModelMemory(sizes, "nf4", QWEN_BOUNDS.fill(MediaConfig())).longest_s(AUTO_KEEP, memory.free)
        why = f"{name}: {_free_of(memory)}, enough for {spoken_length(longest_s)} of video at keep {AUTO_KEEP:g}"
        return ModelSpec(name, "hub", source, QWEN_BOUNDS, sizes, reasons=(why,))
    if device == "cpu":
        why = "asked to stay on the CPU"
    elif memory is not None:
        why = f"{_free_of(memory)}, and 3b needs {AUTO_BYTES['3b'] / 1e9:.1f}"
    else:
        why = "no NVIDIA GPU was found"
    notice = f"{why}: the built-in nano model answers, and it only knows its demo world; `model=3b` or 7b runs anywhere, slowly on a CPU"
    return replace(_nano(), reasons=(f"nano: {why}",), notice=notice)


def _free_of(memory: GpuMemory) -> str:
    return f"{memory.free / 1e9:.1f} of the GPU's {memory.total / 1e9:.1f} GB are free"
