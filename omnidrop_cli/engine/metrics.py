"""Clocks, peak memory and exact FLOPs.

Times are those of the device, which runs behind the host; the peak is that of the device that computes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from omnidrop_cli.engine import process_memory

if TYPE_CHECKING:
    from omnidrop_cli.model.sizes import AudioSizes, ThinkerSizes, VisionSizes


def synchronise(device: torch.device) -> None:
    """Wait until everything queued on `device` has run; a clock read without it measures the queueing."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Stopwatch:
    """Seconds per named stage, the device drained at both ends. A stage entered twice adds up; `before` are stages that ran already."""

    def __init__(self, device: torch.device | None = None, before: Mapping[str, float] | None = None) -> None:
        self.device = device
        self.seconds: dict[str, float] = dict(before or {})

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Clock the block as `name`, also when it raises."""
        self._drain()
        start = time.perf_counter()
        try:
            yield
        finally:
            self._drain()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def _drain(self) -> None:
        if self.device is not None:
            synchronise(self.device)


def reset_peak(device: torch.device) -> None:
    """Start a new memory peak (`process_memory.reset_peak` on a CPU)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        process_memory.reset_peak()


def peak_mb(device: torch.device) -> float:
    """Peak in megabytes (1e6 bytes) since `reset_peak`: allocated on CUDA, resident on the CPU."""
    return torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else process_memory.peak_mb()


def memory_kind(device: torch.device) -> str:
    """What `peak_mb` counts on this device, for the table."""
    return "allocated on the GPU" if device.type == "cuda" else "resident in the process"


def prefill_flops(
    entering: Sequence[int], *, hidden: int, heads: int, kv_heads: int, head_dim: int, mlp: int, vocab: int, last_row_only: bool = True
) -> int:
    """FLOPs (multiply and add counted as two) of a causal prefill whose layer l sees `entering[l]` tokens.

    Per layer and n tokens: query, key, value and output projections, a gated MLP of three matrices, and causal attention
    (scores and weighted sum, n (n + 1) / 2 pairs). Plus logits of the last row. Norms, rotary and softmax are left out: they
    are three orders of magnitude smaller. With `last_row_only`, as `prefill` runs it, the last layer makes keys and values of every
    row and everything else of one; papers count every row.
    """
    query, key = heads * head_dim, kv_heads * head_dim
    total = 2 * hidden * vocab
    for layer, n in enumerate(entering):
        last = last_row_only and layer == len(entering) - 1
        rows, pairs = (1, n) if last else (n, n * (n + 1) // 2)
        total += 2 * n * hidden * 2 * key + 2 * rows * hidden * (2 * query + 3 * mlp) + 2 * 2 * query * pairs
    return total


def encoder_flops(sizes: ThinkerSizes, *, grid_thw: tuple[int, int, int] | None = None, mel_frames: int = 0) -> int:
    """FLOPs of both encoders on one clip, counted as in `prefill_flops`.

    Args:
        sizes: Sizes of the whole thinker.
        grid_thw: Temporal grids, and patches down and across, of the video; None without one. Grids that frame deduplication leaves out
            must not be counted in.
        mel_frames: Length of the mel, 100 a second; 0 without audio.
    """
    out = sizes.decoder.hidden
    video = 0 if grid_thw is None else vision_flops(sizes.vision, out, grid_thw)
    return video + (audio_flops(sizes.audio, out, mel_frames) if mel_frames else 0)


def vision_flops(vision: VisionSizes, out: int, grid_thw: tuple[int, int, int]) -> int:
    """FLOPs of the vision encoder: patch embedding, blocks with attention in windows or in whole grids, merger to `out` dimensions."""
    grids, height, width = grid_thw
    d, patches, merged = vision.hidden, grids * height * width, vision.hidden * vision.merge**2
    side = vision.window // vision.patch // vision.merge  # of a window, in merged cells
    cells = [_pieces(length // vision.merge, side) for length in (height, width)]
    windowed = sum((rows * columns * vision.merge**2) ** 2 for rows in cells[0] for columns in cells[1])
    full = sum(1 for block in range(vision.layers) if block in vision.full_blocks)
    pairs = grids * (full * (height * width) ** 2 + (vision.layers - full) * windowed)
    embedding = patches * 3 * vision.temporal_patch * vision.patch**2 * d
    blocks = vision.layers * patches * (4 * d * d + 3 * d * vision.mlp)
    merger = patches // vision.merge**2 * (merged * merged + merged * out)
    return 2 * (embedding + blocks + merger) + 4 * d * pairs


def audio_flops(audio: AudioSizes, out: int, mel_frames: int) -> int:
    """FLOPs of the audio encoder: two convolutions, layers with attention in windows, projection of every second row to `out`.

    The last window is convolved at the length of the others, padded, as the encoder runs it.
    """
    d, windows = audio.hidden, _pieces(mel_frames, audio.window)
    convolved = len(windows) * max(windows)
    halved = len(windows) * ((max(windows) - 1) // 2 + 1)
    rows = [(length - 1) // 2 + 1 for length in windows]
    convolutions = 3 * d * (audio.mels * convolved + d * halved)
    layers = audio.layers * sum(rows) * (4 * d * d + 2 * d * audio.mlp)
    projection = ((mel_frames - 1) // 2 + 1) // 2 * d * out
    return 2 * (convolutions + layers + projection) + 4 * d * audio.layers * sum(length * length for length in rows)


def _pieces(length: int, size: int) -> list[int]:
    """`length` cut into pieces of `size`, the last one shorter."""
    return [min(size, length - start) for start in range(0, length, size)]
