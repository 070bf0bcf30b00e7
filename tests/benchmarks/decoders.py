"""Decoding of a clip by omnidrop, by PyAV frame by frame, by ffmpeg's own select and scale, and by Qwen's tools.

Each is asked for the same frames and the same sound. `omnidrop` and `pyav` must give equal frames to the bit; the others choose and scale
by their own rules.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omnidrop_cli.bench.media import Prepare, facts_of, ours
from omnidrop_cli.bench.subprocess_run import Tell, Unavailable, Work
from omnidrop_cli.config import MediaConfig
from omnidrop_cli.engine import process_memory
from omnidrop_cli.errors import MediaError
from omnidrop_cli.media.clip import ClipPlan, plan_clip
from omnidrop_cli.media.container import audio_track, find_source, open_media, video_track
from omnidrop_cli.media.frame_choice import FRAME_PIXELS
from omnidrop_cli.media.video import shrinker
from omnidrop_cli.outputs import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from omnidrop_cli.media.frame_choice import FrameChoice
    from omnidrop_cli.media.timeline import VideoTrack
    from omnidrop_cli.outputs import VideoStream

SCALER = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
"""Our scaler's flags, as ffmpeg spells them."""


def _plain(clip: Path, options: MediaConfig) -> Work:
    """Every frame decoded in order; the wanted ones resized by our scaler. Choosing them is not measured."""
    track, choice, video, plan = _chosen(clip, options)
    wanted: dict[int, list[int]] = {}
    for slot, packet in enumerate(choice.packets):
        wanted.setdefault(int(track.pts[packet]), []).append(slot)

    def work() -> Tell:
        frames = np.zeros((len(choice.packets), 3, *choice.size), np.uint8)
        shrink = shrinker(choice.size, video)
        with open_media(plan.scan.source) as container:
            stream: Any = video_track(container)
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                for slot in wanted.get(frame.pts, ()):
                    frames[slot] = shrink(frame)
        return partial(facts_of, frames, _plain_sound(clip) if options.use_audio else None)

    return work


def _plain_sound(clip: Path) -> NDArray[np.float32] | None:
    import av

    with open_media(find_source(clip)) as container:
        stream: Any = audio_track(container)
        if stream is None:
            return None
        resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE_HZ)
        pieces = [piece.to_ndarray()[0] for frame in container.decode(stream) for piece in resampler.resample(frame)]
        return np.concatenate([*pieces, *(piece.to_ndarray()[0] for piece in resampler.resample(None))])


def _ffmpeg(clip: Path, options: MediaConfig) -> Work:
    binary = shutil.which("ffmpeg")
    if binary is None:
        raise Unavailable("there is no ffmpeg on the path")
    track, choice, _, _ = _chosen(clip, options)
    height, width = choice.size
    # Half a frame less than the distance of two wanted pictures, so that rounding drops none.
    apart_s = (float(choice.times_s[-1]) - float(choice.times_s[0])) / max(1, len(choice.times_s) - 1) - track.frame_s / 2
    pick = f"select='isnan(prev_selected_t)+gte(t-prev_selected_t,{apart_s:.6f})',scale={width}:{height}:flags={SCALER}"
    stretch = [*(["-ss", str(options.start_s)] if options.start_s else []), *(["-to", str(options.end_s)] if options.end_s else [])]
    pictures = ["-map", "0:v:0", "-vf", pick, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    command = [binary, "-nostdin", "-loglevel", "error", "-y", *stretch, "-i", str(clip), *pictures]
    size = 3 * height * width

    def work() -> Tell:
        frames, sound, peak = [], None, 0.0
        with tempfile.TemporaryDirectory() as folder:
            heard = Path(folder) / "sound"
            wav = ["-map", "0:a:0", "-ac", "1", "-ar", str(SAMPLE_RATE_HZ), "-f", "f32le", str(heard)] if options.use_audio else []
            with subprocess.Popen([*command, *wav], stdout=subprocess.PIPE) as process:
                while process.stdout is not None and len(picture := process.stdout.read(size)) == size:
                    frames.append(np.frombuffer(picture, np.uint8).reshape(height, width, 3).transpose(2, 0, 1))
                    peak = max(peak, process_memory.of_process("peak", process.pid) or 0.0)
            if process.returncode:
                raise MediaError(f"ffmpeg ended with {process.returncode}")
            if wav:
                sound = np.fromfile(heard, np.float32)
        return partial(facts_of, np.stack(frames), sound, other_peak_mb=peak)

    return work


def _qwen(clip: Path, options: MediaConfig) -> Work:
    if importlib.util.find_spec("qwen_omni_utils") is None:
        raise Unavailable("qwen-omni-utils is not installed")
    try:
        from qwen_omni_utils import process_mm_info  # type: ignore[import-not-found]  # a peer, not a dependency
    except Exception as error:  # torchvision without its operators raises RuntimeError
        raise Unavailable(f"qwen-omni-utils cannot be imported: {error}") from error
    video = {
        "type": "video",
        "video": str(clip),
        "fps": options.fps,
        "min_frames": options.min_frames,
        "max_frames": options.max_frames,
        "min_pixels": options.min_pixels or FRAME_PIXELS[0],
        "max_pixels": options.max_pixels or FRAME_PIXELS[1],
        **({"video_start": options.start_s, "video_end": options.end_s} if options.start_s or options.end_s else {}),
    }

    def work() -> Tell:
        sounds, _, videos = process_mm_info([{"role": "user", "content": [video]}], use_audio_in_video=options.use_audio)
        return partial(facts_of, videos[0].numpy(), None if sounds is None else sounds[0])

    return work


DECODERS: dict[str, Prepare] = {"omnidrop": ours, "pyav": _plain, "ffmpeg": _ffmpeg, "qwen-omni-utils": _qwen}
"""Names of the decoders; the first one named is what the others are compared with."""


def _chosen(clip: Path, options: MediaConfig) -> tuple[VideoTrack, FrameChoice, VideoStream, ClipPlan]:
    plan = plan_clip(clip, options)
    track, choice, video = plan.scan.timeline.video, plan.frames, plan.source.video
    if track is None or choice is None or video is None:
        raise MediaError(f"{clip} has no video in this part")
    return track, choice, video, plan
