"""Checkpoints on disk for the tests of this package: the hub's layouts, written from a tiny random thinker."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from omnidrop_cli.model.thinker import Thinker

INDEX = "model.safetensors.index.json"


def quantized_modules(model: nn.Module) -> dict[str, str]:
    """Names of quantised modules and the class of each."""
    kinds = ("Linear4bit", "Linear8bitLt")
    return {name: type(module).__name__ for name, module in model.named_modules() if type(module).__name__ in kinds}


def write_plain(thinker: Thinker, directory: Path) -> Path:
    """A thinker alone, as `save_pretrained` writes it."""
    thinker.model.save_pretrained(directory)
    thinker.tokenizer.save_pretrained(directory)
    return directory


def write_omni(thinker: Thinker, directory: Path, thinker_files: int = 3, more: Mapping[str, torch.Tensor] | None = None) -> Path:
    """The hub's full Omni layout: `thinker.*` in some shards, one shard shared with the talker, the rest `talker.*` and `token2wav.*`.

    `more` are further tensors of the thinker's shards, by their whole names.

    The last shard, which holds no tensor of the thinker, is not a safetensors file at all: whoever reads it fails.
    """
    write_plain(thinker, directory)
    config = json.loads((directory / "config.json").read_text())
    with safe_open(directory / "model.safetensors", framework="pt") as file:
        state = {f"thinker.{key}": file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    state |= more or {}
    (directory / "model.safetensors").unlink()
    config = {"model_type": "qwen2_5_omni", "architectures": ["Qwen2_5OmniModel"], "thinker_config": config, "talker_config": {}}
    (directory / "config.json").write_text(json.dumps(config))
    shards: list[dict[str, torch.Tensor]] = [{} for _ in range(thinker_files)]
    for number, key in enumerate(sorted(state)):
        shards[number * thinker_files // len(state)][key] = state[key]
    shards[-1]["talker.model.norm.weight"] = torch.full((8,), torch.nan)
    total = thinker_files + 1
    names = [f"model-{number + 1:05d}-of-{total:05d}.safetensors" for number in range(total)]
    weight_map: dict[str, Any] = {key: names[number] for number, shard in enumerate(shards) for key in shard}
    for name, shard in zip(names, shards, strict=False):
        save_file(shard, directory / name)
    (directory / names[-1]).write_bytes(b"the talker and the vocoder are never read")
    weight_map |= {"talker.codec_head.weight": names[-1], "token2wav.code2wav.weight": names[-1]}
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return directory
