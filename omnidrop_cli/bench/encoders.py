"""Seconds of the audio and the vision encoder on noise in the papers' layout."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from omnidrop_cli.bench.device import sample_here
from omnidrop_cli.bench.measurement import Group, alternate
from omnidrop_cli.bench.subprocess_run import Tell
from omnidrop_cli.bench.synthetic import with_noise_media
from omnidrop_cli.engine.encode import encode_media
from omnidrop_cli.events import SILENT, ProgressCallback

if TYPE_CHECKING:
    from omnidrop_cli.model.thinker import Thinker
    from omnidrop_cli.outputs import Prompt


def measure_encoders(thinker: Thinker, prompt: Prompt, *, repeats: int = 3, progress: ProgressCallback = SILENT) -> list[Group]:
    """Encode the frames and the sound of a synthetic `prompt` (`synthetic.papers_prompt`), each on its own."""
    noise = with_noise_media(thinker, prompt)
    (clip,) = noise.media
    counts = prompt.token_map.counts()
    return [
        Group(f"{name} encoder, {tokens} tokens", alternate({name: partial(sample_here, thinker.device, work)}, repeats, progress))
        for name, tokens, work in (
            ("vision", counts.video, partial(_encode, thinker, replace(noise, media=(replace(clip, mel=None),)))),
            ("audio", counts.audio, partial(_encode, thinker, replace(noise, media=(replace(clip, frames=None),)))),
        )
    ]


def _encode(thinker: Thinker, prompt: Prompt) -> Tell:
    encode_media(thinker, prompt)
    return dict
