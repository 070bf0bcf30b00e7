"""Checkpoint directories: which files hold the thinker, and its weights as slices that are read when used.

Both layouts are read: the hub's full Omni one (`thinker.*` next to `talker.*` and `token2wav.*`, sharded, with an index) and a
thinker alone, quantised or not. Weights are read from safetensors files only, nothing of the talker is read, and no file outside the
directory.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from omnidrop_cli.errors import ModelError
from omnidrop_cli.model.sizes import ThinkerSizes
from omnidrop_cli.model.stored_config import read_config, read_json, thinker_section

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
OTHER_PARTS = ("talker.", "token2wav.")
TRAINED_PARTS = ("thinker.compressor.", "compressor.")
"""Parts of a pruning method that a checkpoint was trained with (OmniSIFT's selector); the method reads them, the thinker has none."""
TRAINED_PARTS_FILE = "selector.safetensors"

COUNT_TOLERANCE = 0.1
"""Largest difference between the parameters in the files and those of the configuration, as a share. A smaller one is left to
transformers, which names each missing tensor; a larger one would allocate the difference first."""

_DAMAGED = "the checkpoint is damaged or incomplete; download it again"
_SHARD_NAME = re.compile(r"[\w-][\w.-]*\.safetensors")


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
        method = str(stored.get("quant_method", "bitsandbytes"))
        if not method.startswith("bitsandbytes"):
            return method
        if stored.get("load_in_4bit"):
            return str(stored.get("bnb_4bit_quant_type", "fp4"))
        return "int8" if stored.get("load_in_8bit") else "unknown"


def open_checkpoint(directory: Path) -> Checkpoint:
    """Look at a checkpoint's configuration and file names. Raises `ModelError` for one without a Qwen2.5-Omni thinker in safetensors."""
    config = read_config(directory)
    thinker = thinker_section(config, str(directory))
    quantization = thinker.get("quantization_config") or config.get("quantization_config")
    if quantization is not None and not isinstance(quantization, Mapping):
        raise ModelError(f"the quantization_config of {directory} is no object", _DAMAGED)
    index = read_json(directory / INDEX)
    names = (SINGLE,) if index is None else thinker_shards(index, str(directory))
    shards = tuple(directory / name for name in names)
    absent = [shard.name for shard in shards if not shard.is_file()]
    if absent and index is None:
        raise ModelError(f"{directory} holds no {SINGLE} and no {INDEX}", "weights must be in safetensors format")
    if absent:
        raise ModelError(f"{directory} lacks {', '.join(absent)}", "copy or download the rest of the checkpoint")
    return Checkpoint(directory, thinker, quantization, shards)


def weight_map(index: Mapping[str, Any], source: str) -> dict[str, str]:
    """The file of every tensor, by the tensor's name, from the index of a checkpoint.

    Raises:
        ModelError: The index has no map from tensors to safetensors files of the same directory.
    """
    files = index.get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(name, str) and _SHARD_NAME.fullmatch(name) for name in files.values()):
        raise ModelError(f"{source}: {INDEX} has no usable weight map", _DAMAGED)
    return files


def thinker_shards(index: Mapping[str, Any], source: str) -> tuple[str, ...]:
    """Names of the files that hold at least one tensor of the thinker. Raises `ModelError` as `weight_map` does."""
    return tuple(sorted({name for key, name in weight_map(index, source).items() if not key.startswith(OTHER_PARTS)}))


def thinker_slices(checkpoint: Checkpoint) -> dict[str, Any]:
    """Every tensor of the thinker by its stored name, not yet read. Raises `ModelError` for a damaged file."""
    from safetensors import SafetensorError

    slices: dict[str, Any] = {}
    for shard in checkpoint.shards:
        try:
            file = open_shard(shard)
            wanted = (key for key in file.keys() if not key.startswith(OTHER_PARTS + TRAINED_PARTS))  # noqa: SIM118  # no mapping
            slices |= {key: file.get_slice(key) for key in wanted}
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{shard} cannot be read: {error}", _DAMAGED) from error
    return slices


def open_shard(path: Path) -> Any:
    """Open a safetensors file for reading slices. Raises `SafetensorError` or `OSError`.

    A mapped file is the fastest to read. On Windows a mapping that torch may write to is charged against the page file as a whole, which
    a checkpoint of 10 GB overdraws; there tensors are read one by one.
    """
    from safetensors import safe_open

    if sys.platform == "win32":
        return safe_open(path, framework="pt", device="cpu", backend="pread")
    return safe_open(path, framework="pt", device="cpu")


def check_parameter_count(slices: Mapping[str, Any], quant: str, sizes: ThinkerSizes, source: Path) -> None:
    """Compare what the files hold with what the configuration describes, before memory is allocated for either.

    Raises:
        ModelError: The counts differ by more than a tenth.
    """
    stored = 0
    for key, part in slices.items():
        if key.rpartition(".")[2] in ("weight", "bias"):
            packed = 2 if quant == "nf4" and part.get_dtype() == "U8" else 1  # two 4-bit weights a byte
            stored += packed * prod(part.get_shape())
    least = sizes.parameters
    most = least + (sizes.decoder.vocab * sizes.decoder.hidden if sizes.decoder.tied else 0)  # a tied table may be stored twice
    if not least * (1 - COUNT_TOLERANCE) <= stored <= most * (1 + COUNT_TOLERANCE):
        raise ModelError(
            f"the weights in {source} are not those that its config.json describes: {stored / 1e6:,.2f} million parameters "
            f"instead of {least / 1e6:,.2f}",
            "use config.json and weights of one checkpoint, and all of its files",
        )


def copy_trained_parts(source: Path, target: Path) -> None:
    """Copy to `target` what a pruning method reads in addition to the thinker of `source`. Raises `ModelError` or `OSError`."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    found: dict[str, Any] = {}
    separate = source / TRAINED_PARTS_FILE
    for shard in (*open_checkpoint(source).shards, *([separate] if separate.is_file() else [])):
        try:
            file = open_shard(shard)
            found |= {key: file.get_tensor(key) for key in file.keys() if key.startswith(TRAINED_PARTS)}  # noqa: SIM118  # no mapping
        except SafetensorError as error:
            raise ModelError(f"{shard} cannot be read: {error}", _DAMAGED) from error
    if found:
        save_file(found, target / TRAINED_PARTS_FILE)
