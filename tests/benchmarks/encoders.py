"""The encoders against transformers' own attention and against their matrix products alone, on noise in the papers' layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from omnidrop_cli.bench.device import device_name, sample_here
from omnidrop_cli.bench.measurement import BenchReport, Group, alternate
from omnidrop_cli.bench.synthetic import FRAME_HEIGHT, FRAME_WIDTH, MEL_FRAMES_PER_SECOND
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.prompt.patches import grid_of, patchify

if TYPE_CHECKING:
    from omnidrop_cli.bench.subprocess_run import Tell
    from omnidrop_cli.model.thinker import Thinker


@torch.inference_mode()
def bench_encoders(thinker: Thinker, seconds: float, *, repeats: int = 3, progress: ProgressCallback = SILENT) -> BenchReport:
    """Both encoders on `seconds` of 252x448 video at 2 fps and of sound, one pass each."""
    frames = torch.randint(0, 256, (2 * max(1, round(seconds)), 3, FRAME_HEIGHT, FRAME_WIDTH), dtype=torch.uint8)
    patches = patchify(frames, thinker.spec).to(thinker.device, thinker.dtype)
    grid = torch.tensor([grid_of(len(frames), FRAME_HEIGHT, FRAME_WIDTH, thinker.spec)], device=thinker.device)
    mel = torch.randn(thinker.spec.n_mels, round(seconds * MEL_FRAMES_PER_SECOND)).to(thinker.device, thinker.dtype)
    adapter = thinker.adapter
    passes = {
        "vision": (adapter.vision_encoder, lambda: adapter.encode_video(patches, grid)),
        "audio": (adapter.audio_encoder, lambda: adapter.encode_audio(mel)),
    }
    groups = [_group(thinker, f"{name} encoder, {seconds:g} s", *found, repeats, progress) for name, found in passes.items()]
    facts = {"model": thinker.loaded.name, "dtype": thinker.loaded.dtype}
    return BenchReport("encoders", device_name(thinker.device), repeats, groups, ("torch", "transformers"), facts)


def _group(thinker: Thinker, subject: str, encoder: Any, run: Any, repeats: int, progress: ProgressCallback) -> Group:
    with _products(encoder) as products:
        run()

    def ours() -> Tell:
        run()
        return dict

    def stock() -> Tell:
        with thinker.adapter.stock_encoder_attention():
            run()
        return dict

    def products_alone() -> Tell:
        for module, x in products:
            module(x)
        return dict

    works = {"ours": ours, "stock attention": stock, "products alone": products_alone}
    return Group(subject, alternate({name: partial(sample_here, thinker.device, work) for name, work in works.items()}, repeats, progress))


@contextmanager
def _products(encoder: nn.Module) -> Iterator[list[tuple[nn.Module, Tensor]]]:
    """Collect every linear and convolution layer with its input, for a pass inside the context."""
    met: list[tuple[nn.Module, Tensor]] = []
    handles = [
        module.register_forward_pre_hook(lambda module, args: met.append((module, args[0])))
        for module in encoder.modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv3d)
    ]
    try:
        yield met
    finally:
        for handle in handles:
            handle.remove()
