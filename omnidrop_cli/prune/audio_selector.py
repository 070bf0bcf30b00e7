"""OmniSIFT's trained audio selector: the network, and its weights in and out of a checkpoint (arXiv 2602.04804).

The network has 4,856,321 parameters for embeddings of 3,584. Its weights are read from `thinker.compressor.*` of a checkpoint's
safetensors files, or from a file of their own, and are written under the same names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from omnidrop_cli.errors import ModelError
from omnidrop_cli.model.checkpoint import INDEX, TRAINED_PARTS_FILE, open_shard, weight_map
from omnidrop_cli.model.stored_config import read_json

WIDTH = 512
HEAD_WIDTH = 64
"""The published selector has eight heads of 64; a narrower one has fewer of the same width: its shape follows from its tensors."""

PREFIX = "thinker.compressor."
MARK = "compressor."
ANCHOR = "a_proj.weight"


class AudioSelector(nn.Module):
    """Scores audio tokens by what the kept video of their chunk shows: one cross-attention layer and a small head.

    Parameter names are those of the published checkpoint, which is 512 wide.
    """

    def __init__(self, dim: int, width: int = WIDTH) -> None:
        super().__init__()
        self.v_proj, self.a_proj = nn.Linear(dim, width), nn.Linear(dim, width)
        self.v_norm, self.a_norm, self.post_attn_norm = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.cross_attn = nn.MultiheadAttention(width, width // HEAD_WIDTH, batch_first=True)
        self.score_head = nn.Sequential(nn.Linear(width, width // 2), nn.SiLU(), nn.Linear(width // 2, 1))

    @property
    def dim(self) -> int:
        return self.a_proj.in_features

    def forward(self, audio: Tensor, video: Tensor, shown: Tensor) -> Tensor:
        """Scores the audio tokens of each chunk.

        Args:
            audio: (c, a, d) embeddings of the audio tokens.
            video: (c, v, d) embeddings of the kept video tokens of the same chunk.
            shown: (c, v) True for tokens, False for padding.

        Returns:
            (c, a) scores in (0, 1). A chunk without video is scored by its audio alone: the attention adds nothing.
        """
        heard = self.a_norm(self.a_proj(audio))
        seen = self.v_norm(self.v_proj(video))
        nothing = ~shown.any(dim=1, keepdim=True)
        attended, _ = self.cross_attn(heard, seen, seen, key_padding_mask=~(shown | nothing), need_weights=False)
        mixed = self.post_attn_norm(attended.masked_fill(nothing[..., None], 0.0) + heard)
        scores: Tensor = self.score_head(mixed)[..., 0].sigmoid()
        return scores


@cache
def load_selector(path: str) -> AudioSelector:
    """The selector in a .safetensors or .pt file, or in a directory of safetensors shards.

    Raises `ModelError` for a path without readable selector weights.
    """
    with _readable(path):
        weights = _weights(Path(path))
    if ANCHOR not in weights:
        raise ModelError(f"{path} holds no audio selector", f"its tensors are named {PREFIX}*, as in OmniSIFT-7B")
    width, dim = weights[ANCHOR].shape
    try:
        with torch.inference_mode(False):  # the cache may be filled inside a run and read by a training
            selector = AudioSelector(dim, width)
        selector.load_state_dict(weights)
    except (RuntimeError, AssertionError) as problem:  # a width that heads do not divide is an assertion in torch
        raise ModelError(f"the selector in {path} has other parts than OmniSIFT's", str(problem).splitlines()[-1].strip()) from problem
    return selector.float().eval()


@cache
def has_selector(directory: Path) -> bool:
    """Whether a checkpoint's directory holds a selector, in a file of its own or among the weights. Reads the headers only."""
    with _readable(str(directory)):
        return any(name.endswith(MARK + ANCHOR) for file in _open_shards(directory) for name in file.keys())  # noqa: SIM118  # no mapping


def save_selector(selector: AudioSelector, path: Path) -> None:
    """Write the selector's weights in bfloat16 under the published names. Raises `OSError`."""
    from safetensors.torch import save_file

    state = selector.state_dict()
    save_file({PREFIX + name: tensor.detach().cpu().bfloat16().contiguous() for name, tensor in state.items()}, path)


@cache
def untrained_selector(dim: int) -> AudioSelector:
    """A selector with random weights, always the same: for tests, and as the baseline of training."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):  # cached, like `load_selector`'s
        torch.manual_seed(0)
        return AudioSelector(dim).eval()


def _weights(path: Path) -> dict[str, Tensor]:
    """Tensors by their names inside the selector; of a directory, those of its compressor alone."""
    if path.is_file() and path.suffix != ".safetensors":
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return {_short(name): tensor for name, tensor in state.items() if MARK in name or name == _short(name)}
    whole = not path.is_dir()
    return {_short(name): file.get_tensor(name) for file in _open_shards(path) for name in file.keys() if MARK in name or whole}  # noqa: SIM118


def _open_shards(path: Path) -> Iterator[Any]:
    for shard in _shards(path) if path.is_dir() else [path]:
        with open_shard(shard) as file:
            yield file


def _shards(directory: Path) -> list[Path]:
    """Files that may hold a selector. With an index, only those it names for one: the files of other parts may be absent.

    Raises `ModelError` for an index that names anything but safetensors files of the directory.
    """
    index = read_json(directory / INDEX)
    if index is None:
        return sorted(directory.glob("*.safetensors"))
    named = {name for tensor, name in weight_map(index, str(directory)).items() if MARK in tensor}
    separate = directory / TRAINED_PARTS_FILE
    return [*(directory / name for name in sorted(named)), *([separate] if separate.is_file() else [])]


@contextmanager
def _readable(path: str) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as problem:
        raise ModelError(f"cannot read selector weights from {path}: {problem}", "give a checkpoint of OmniSIFT") from problem


def _short(name: str) -> str:
    return name.rpartition(MARK)[2]
