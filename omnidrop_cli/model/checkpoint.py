"""Checkpoint directories: which files hold the thinker, and its weights as lazily read slices.

Knows: the hub's full Omni layout (`thinker.*` beside `talker.*` and `token2wav.*`, sharded, with an index) and plain thinker
checkpoints, quantised or not. Does not know the hub (`hub.py`) or models. Nothing of the talker is read, and a slice costs nothing
until it is used: the files are memory-mapped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnidrop_cli.errors import ModelError
from omnidrop_cli.model.names import read_json, thinker_section

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
OTHER_PARTS = ("talker.", "token2wav.")
TRAINED_PARTS = ("thinker.compressor.", "compressor.")
"""Parts of a pruning method that a checkpoint was trained with (OmniSIFT's selector); the method reads them, the thinker has none."""
TRAINED_PARTS_FILE = "selector.safetensors"

_DAMAGED = "the checkpoint is damaged or incomplete; download it again"


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A checkpoint on this disk. `thinker` is the thinker's configuration as stored, `shards` the files that hold its weights."""

    directory: Path
    thinker: Mapping[str, Any]
    quantization: Mapping[str, Any] | None
    shards: tuple[Path, ...]

    @property
    def quant(self) -> str:
        """How the weights are stored: nf4, int8, none, or the name of another method."""
        if self.quantization is None:
            return "none"
        stored = self.quantization
        if stored.get("load_in_4bit"):
            return str(stored.get("bnb_4bit_quant_type", "fp4"))
        return "int8" if stored.get("load_in_8bit") else str(stored.get("quant_method", "unknown"))


def open_checkpoint(directory: Path) -> Checkpoint:
    """Raises `ModelError` for a directory without a Qwen2.5-Omni thinker in safetensors."""
    config = read_json(directory / "config.json")
    if config is None:
        raise ModelError(f"{directory} holds no config.json", "give the directory of a Qwen2.5-Omni checkpoint")
    thinker = thinker_section(config, str(directory))
    index = read_json(directory / INDEX)
    names = (SINGLE,) if index is None else thinker_shards(index, str(directory))
    shards = tuple(directory / name for name in names)
    absent = [shard.name for shard in shards if not shard.is_file()]
    if absent and index is None:
        raise ModelError(f"{directory} holds no {SINGLE} and no {INDEX}", "weights must be in safetensors format")
    if absent:
        raise ModelError(f"{directory} lacks {', '.join(absent)}", "copy or download the rest of the checkpoint")
    return Checkpoint(directory, thinker, thinker.get("quantization_config") or config.get("quantization_config"), shards)


def thinker_shards(index: Mapping[str, Any], source: str) -> tuple[str, ...]:
    """Names of the files that hold at least one tensor of the thinker. Raises `ModelError` for an index that is none."""
    files = index.get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(name, str) and "/" not in name for name in files.values()):
        raise ModelError(f"{source}: {INDEX} has no usable weight map", _DAMAGED)
    return tuple(sorted({name for key, name in files.items() if not key.startswith(OTHER_PARTS)}))


def thinker_slices(checkpoint: Checkpoint) -> dict[str, Any]:
    """Every tensor of the thinker by its stored name, not yet read. Raises `ModelError` for a damaged file."""
    from safetensors import SafetensorError, safe_open

    slices: dict[str, Any] = {}
    for shard in checkpoint.shards:
        try:
            file: Any = safe_open(shard, framework="pt", device="cpu")
            wanted = (key for key in file.keys() if not key.startswith(OTHER_PARTS + TRAINED_PARTS))  # noqa: SIM118  # no mapping
            slices |= {key: file.get_slice(key) for key in wanted}
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{shard} cannot be read: {error}", _DAMAGED) from error
    return slices


def copy_trained_parts(source: Path, target: Path) -> None:
    """Take over into `target` what a pruning method reads beside the thinker of `source`. Raises `ModelError` or `OSError`."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file

    found: dict[str, Any] = {}
    beside = source / TRAINED_PARTS_FILE
    for shard in (*open_checkpoint(source).shards, *([beside] if beside.is_file() else [])):
        try:
            with safe_open(shard, framework="pt", device="cpu") as file:
                found |= {key: file.get_tensor(key) for key in file.keys() if key.startswith(TRAINED_PARTS)}  # noqa: SIM118  # no mapping
        except SafetensorError as error:
            raise ModelError(f"{shard} cannot be read: {error}", _DAMAGED) from error
    if found:
        save_file(found, target / TRAINED_PARTS_FILE)
