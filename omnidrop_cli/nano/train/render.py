"""A timeline's frames and log-mel as the model receives them, degraded a little as files would be.

Real files are written by `media_files.py`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from omnidrop_cli.nano.world import draw, mix
from omnidrop_cli.nano.world.scenario import Scenario
from omnidrop_cli.prompt.mel import log_mel

if TYPE_CHECKING:
    from omnidrop_cli.nano.world.voices import VoiceBank


@dataclass(frozen=True, slots=True)
class Media:
    """`frames` uint8 (T, 3, H, W) and `mel` float32 (128, M); None for what the clip lacks."""

    frames: Tensor | None
    mel: Tensor | None


def render(timeline: Scenario, bank: VoiceBank) -> Media:
    """Both modalities at the model's own size."""
    frames = torch.from_numpy(worn(draw.render(timeline), timeline.look)) if timeline.has_video else None
    mel = torch.from_numpy(log_mel(mix.render(timeline, bank))) if timeline.has_audio else None
    return Media(frames, mel)


def worn(frames: NDArray[np.uint8], look: int) -> NDArray[np.uint8]:
    """Half of the clips as a video codec and a scaler would leave them: blocks, ringing, a little blur."""
    rng = np.random.default_rng([look, 2])
    quality, blur = int(rng.integers(25, 95)), float(rng.uniform(1.0, 1.35))
    if rng.random() < 0.5:
        return frames
    out = np.empty_like(frames)
    size = frames.shape[3], frames.shape[2]
    for number, frame in enumerate(frames):
        picture = Image.fromarray(frame.transpose(1, 2, 0))
        if blur > 1.1:
            picture = picture.resize((round(size[0] / blur), round(size[1] / blur)), Image.Resampling.BILINEAR)
            picture = picture.resize(size, Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        out[number] = np.asarray(Image.open(buffer)).transpose(2, 0, 1)
    return out
