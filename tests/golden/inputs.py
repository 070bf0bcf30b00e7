"""The clips of the golden prompts: pictures and sound by integer arithmetic, the same bits on every machine.

Real encoders and voices differ between versions, so they cannot stand behind committed numbers; real files are tested live elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omnidrop_cli.outputs import SAMPLE_RATE_HZ, Clip, SourceFacts


@dataclass(frozen=True)
class Case:
    """One clip and question. `size` is (height, width) of the frames; a size that is not a model size is resized by the reference.

    `fps` is the effective rate. `pixels` bounds a frame for the reference's resize (None: its defaults).
    """

    name: str
    frames: int = 0
    size: tuple[int, int] = (224, 448)
    fps: float = 2.0
    samples: int = 0
    question: str = "What is said?"
    system: str | None = None
    media_first: bool = True
    history: tuple[tuple[str, str], ...] = ()
    pixels: tuple[int, int] | None = None


def seconds(value: float) -> int:
    return round(value * SAMPLE_RATE_HZ)


SMALL = (56 * 56, 112 * 112)

CASES = (
    Case("landscape", 8, samples=seconds(4)),
    Case("portrait", 6, (448, 224), samples=seconds(3)),
    Case("video_only", 4, (336, 308)),
    Case("tiny", 4, (48, 64), samples=seconds(2)),
    Case("tall_source", 4, (320, 180), samples=seconds(1.9)),
    Case("hd_source", 4, (360, 640), samples=seconds(2)),
    Case("square_source", 2, (240, 240), samples=seconds(1)),
    Case("wide_source", 4, (64, 640)),
    Case("odd_duration", 10, fps=10 / 5.3, samples=seconds(5.3), pixels=SMALL, size=(84, 112)),
    Case("odd_frame_count", 5, samples=seconds(2.5), pixels=SMALL, size=(84, 112)),
    Case("ntsc", 8, fps=30_000 / 1001 / 15, samples=seconds(4.004), pixels=SMALL, size=(84, 112)),
    Case("ntsc_video_only", 90, fps=30_000 / 1001 / 15, pixels=SMALL, size=(56, 84)),
    Case("seven_fps_thinned", 8, fps=1.75, samples=seconds(4.57), pixels=SMALL, size=(84, 112)),
    Case("seven_fps_whole", 14, fps=7.0, samples=seconds(2), pixels=SMALL, size=(112, 84)),
    Case("sound_shorter", 12, samples=seconds(2.5), pixels=SMALL, size=(84, 112)),
    Case("sound_ends_in_first_grid", 2, (224, 448), samples=seconds(0.05)),
    Case("sound_longer", 6, samples=seconds(6.5), pixels=SMALL, size=(84, 112)),
    Case("sparse_frames", 6, fps=0.4, samples=seconds(31), pixels=SMALL, size=(84, 112)),
    Case("one_grid", 2, samples=seconds(1), pixels=SMALL, size=(56, 56)),
    Case("minute", 120, samples=seconds(60), pixels=SMALL, size=(56, 84)),
    Case("audio_only", samples=seconds(2.345)),
    Case("audio_only_off_hop", samples=16_077),
    Case("audio_only_shortest", samples=321),
    Case("audio_300_s", samples=seconds(300)),
    Case("audio_over_300_s", samples=seconds(310) + 77),
    Case("long_sound_and_video", 8, fps=8 / 302, samples=seconds(302.5), pixels=SMALL, size=(84, 112)),
    Case("text_first", 4, samples=seconds(2), pixels=SMALL, size=(84, 112), media_first=False, question="\n What  is said?\n"),
    Case("empty_system", 4, samples=seconds(2), pixels=SMALL, size=(84, 112), system="", question="Qu'est-ce qui est dit ? \u4f60\u597d\n"),
    Case(
        "third_turn",
        4,
        samples=seconds(2),
        pixels=SMALL,
        size=(84, 112),
        system="Answer briefly.",
        history=(("What is said?", "Hello."), ("By whom?", " A voice.\n")),
        question="And then?",
    ),
)


def frames_of(case: Case) -> NDArray[np.uint8] | None:
    """(T, 3, H, W): gradients, a checkered texture and a jump between frames."""
    if not case.frames:
        return None
    t, c, y, x = np.ogrid[: case.frames, :3, : case.size[0], : case.size[1]]
    return ((x * (2 + c) + y * (5 - c) + t * 37 + ((x // 9 + y // 7 + t) % 2) * 60 + (x * y) // 64) % 256).astype(np.uint8)


def sound_of(case: Case) -> NDArray[np.float32] | None:
    """(N,): a triangle wave of rising pitch, a noise of lower level, and silence in every seventh half second."""
    if not case.samples:
        return None
    i = np.arange(case.samples, dtype=np.int64)
    pitch = (i * (200 + i // 400 % 900)) % 16_000
    tone = np.abs(pitch - 8_000) / 8_000 - 0.5
    noise = ((i * 7_919 + (i * i) % 10_007) % 2_003 - 1_001) / 20_000
    return np.where(i // 8_000 % 7 == 3, 0.0, 0.6 * tone + noise).astype(np.float32)


def clip_of(case: Case, frames: NDArray[np.uint8] | None, sound: NDArray[np.float32] | None) -> Clip:
    """The clip as `media/` would hand it over; `frames` already at model size."""
    length = max(case.frames / case.fps if case.frames else 0.0, case.samples / SAMPLE_RATE_HZ)
    return Clip(
        source=SourceFacts(f"{case.name}.mp4", "mp4", 0, length, None, None),
        frames=frames,
        frame_times_s=None if frames is None else np.arange(len(frames)) / case.fps,
        fps=None if frames is None else case.fps,
        waveform=sound,
        start_s=0.0,
        duration_s=length,
    )


def sample(values: NDArray[np.float32], count: int = 1024) -> NDArray[np.float32]:
    """`count` values spread over an array (all of it where it is smaller); a prime-like stride meets every column in time."""
    flat = values.reshape(-1)
    if len(flat) <= count:
        return flat.copy()
    return flat[(np.arange(count, dtype=np.int64) * (len(flat) // count)) + np.arange(count) % (len(flat) // count)]
