"""OmniSIFT's trained audio selector: the network, and its weights out of a checkpoint (arXiv 2602.04804; methods.md 3.2).

Knows: the layout of `thinker.compressor.*`, 4,856,321 parameters for embeddings of 3,584. Does not know: budgets, prompts.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from omnidrop_cli.errors import ModelError

WIDTH = 512
HEADS = 8
PREFIX = "compressor."


class AudioSelector(nn.Module):
    """Scores audio tokens by what the kept video of their chunk shows: one cross-attention layer and a small head.

    Parameter names are those of the published checkpoint.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.v_proj, self.a_proj = nn.Linear(dim, WIDTH), nn.Linear(dim, WIDTH)
        self.v_norm, self.a_norm, self.post_attn_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.cross_attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.score_head = nn.Sequential(nn.Linear(WIDTH, WIDTH // 2), nn.SiLU(), nn.Linear(WIDTH // 2, 1))

    @property
    def dim(self) -> int:
        return self.a_proj.in_features

    def forward(self, audio: Tensor, video: Tensor, shown: Tensor) -> Tensor:
        """(c, a) scores in (0, 1) of `audio` (c, a, d) beside `video` (c, v, d), where `shown` (c, v) tells tokens from padding.

        A chunk with no video at all is scored by its sound alone: the attention adds nothing.
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
    try:
        weights = _weights(Path(path))
    except (OSError, ValueError, RuntimeError, KeyError) as problem:
        raise ModelError(f"cannot read selector weights from {path}: {problem}", "give a checkpoint of OmniSIFT") from problem
    if "a_proj.weight" not in weights:
        raise ModelError(f"{path} holds no audio selector", f"its tensors are named thinker.{PREFIX}*, as in OmniSIFT-7B")
    selector = AudioSelector(weights["a_proj.weight"].shape[1])
    try:
        selector.load_state_dict(weights)
    except RuntimeError as problem:
        raise ModelError(f"the selector in {path} has other parts than OmniSIFT's", str(problem).splitlines()[-1].strip()) from problem
    return selector.float().eval()


@cache
def untrained_selector(dim: int) -> AudioSelector:
    """A selector with random weights, always the same: for tests, and to see what training is worth."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AudioSelector(dim).eval()


def _weights(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    if path.is_file() and path.suffix != ".safetensors":
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {_short(name): tensor for name, tensor in state.items() if PREFIX in name or name == _short(name)}
    found: dict[str, Tensor] = {}
    for shard in sorted(path.glob("*.safetensors")) if path.is_dir() else [path]:
        try:
            with safe_open(shard, framework="pt") as file:
                names = file.keys()
                found.update({_short(name): file.get_tensor(name) for name in names if PREFIX in name or not path.is_dir()})
        except SafetensorError as problem:
            raise ValueError(str(problem)) from problem
    return found


def _short(name: str) -> str:
    return name.rpartition(PREFIX)[2]
