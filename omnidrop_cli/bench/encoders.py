"""The two encoders against their stock attention and against their own matrix products.

Knows: how to switch a tower back to stock SDPA, and how to time only its linear and convolution layers on the shapes they met.
Does not know: the decoder, clips (frames and mel are noise in the papers' layout).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from omnidrop_cli.bench.floor import median, seconds_of
from omnidrop_cli.prompt.patches import grid_of, patchify

if TYPE_CHECKING:
    from omnidrop_cli.model.thinker import Thinker

HEIGHT, WIDTH = 252, 448
MEL_FRAMES_PER_SECOND = 100


@dataclass(frozen=True, slots=True)
class TowerResult:
    """Median seconds of one tower: ours, with stock SDPA (one call per window), and of its matrix products alone."""

    tower: str
    seconds: float
    stock_s: float
    products_s: float

    @property
    def speedup(self) -> float:
        return self.stock_s / self.seconds

    @property
    def over_products(self) -> float:
        return self.seconds / self.products_s


@torch.inference_mode()
def measure_towers(thinker: Thinker, clip_s: float, repeats: int = 3) -> list[TowerResult]:
    """Both towers on `clip_s` seconds of 252x448 video at 2 fps and of sound, one pass each."""
    frames = torch.randint(0, 256, (2 * max(1, round(clip_s)), 3, HEIGHT, WIDTH), dtype=torch.uint8)
    patches = patchify(frames, thinker.spec).to(thinker.device, thinker.dtype)
    grid = torch.tensor([grid_of(len(frames), HEIGHT, WIDTH, thinker.spec)], device=thinker.device)
    mel = torch.randn(thinker.spec.n_mels, round(clip_s * MEL_FRAMES_PER_SECOND)).to(thinker.device, thinker.dtype)
    length = torch.tensor([mel.shape[1]], device=thinker.device)
    return [
        _measure(thinker.device, "video", thinker.visual, lambda: thinker.visual(patches, grid_thw=grid), repeats),
        _measure(
            thinker.device,
            "audio",
            thinker.audio_tower,
            lambda: thinker.audio_tower(mel, feature_lens=length, aftercnn_lens=(length - 1) // 2 + 1),
            repeats,
        ),
    ]


def _measure(device: torch.device, name: str, tower: Any, run: Any, repeats: int) -> TowerResult:
    with _products(tower) as products:
        run()
    ours, stock, alone = [], [], []
    for _ in range(repeats):
        ours.append(seconds_of(run, device))
        with _stock_attention(tower):
            stock.append(seconds_of(run, device))
        alone.append(seconds_of(lambda: [module(x) for module, x in products], device))
    return TowerResult(name, median(ours), median(stock), median(alone))


@contextmanager
def _products(tower: nn.Module) -> Iterator[list[tuple[nn.Module, Tensor]]]:
    """Collects every linear and convolution layer with the input it met, for a pass inside the block."""
    met: list[tuple[nn.Module, Tensor]] = []
    handles = [
        module.register_forward_pre_hook(lambda module, args: met.append((module, args[0])))
        for module in tower.modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv3d)
    ]
    try:
        yield met
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _stock_attention(tower: Any) -> Iterator[None]:
    packed = tower.config._attn_implementation
    tower.config._attn_implementation = "sdpa"
    try:
        yield
    finally:
        tower.config._attn_implementation = packed
