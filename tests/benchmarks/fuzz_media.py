"""Mutates small media files of every container and decodes them: `python -m tests.benchmarks.fuzz_media --count 5000 --seed 1`.

Every input is planned and decoded in a worker process with limits of memory and time. What counts as a failure: the worker dies, hangs, or
raises anything but `OmnidropError`; the plan and the decoded clip disagree; a sample is not finite; a clip is longer than its bytes can
hold. Failing inputs are cut down to few changed bytes and kept in --keep. Prints counts as JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

MEMORY_BYTES = 3 << 30
TIMEOUT_S = 20.0
MAX_SECONDS_PER_BYTE = 1 / 20
"""No seed holds more than 20 bytes a second; sound that is not transmitted and a picture that stays are allowed for below."""

HOLD_S = 1800.0
"""One picture may stay so long, if the header says so."""

Change = tuple[int, bytes]

_FFMPEG: dict[str, list[str]] = {
    "a.ts": ["-c:v", "libx264", "-bf", "2", "-c:a", "aac"],
    "a.mpg": ["-c:v", "mpeg2video", "-c:a", "mp2", "-f", "vob"],
    "a.flv": ["-c:v", "libx264", "-c:a", "aac"],
    "a.mp4": ["-c:v", "libx264", "-bf", "2", "-c:a", "aac"],
    "fragmented.mp4": ["-c:v", "libx264", "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"],
    "a.mov": ["-c:v", "mjpeg", "-c:a", "pcm_s16le"],
    "a.mkv": ["-c:v", "libx264", "-c:a", "libvorbis"],
    "flac.mkv": ["-c:v", "mpeg4", "-c:a", "flac"],
    "a.webm": ["-c:v", "libvpx", "-b:v", "100k", "-c:a", "libopus"],
    "vp9.webm": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"],
    "a.avi": ["-c:v", "mpeg4", "-bf", "2", "-c:a", "libmp3lame"],
    "h264.avi": ["-c:v", "libx264", "-c:a", "pcm_s16le"],
    "a.ogv": ["-c:v", "libtheora", "-c:a", "libvorbis"],
    "a.wmv": ["-c:v", "wmv2", "-c:a", "wmav2"],
    "a.3gp": ["-c:v", "h263", "-s", "128x96", "-c:a", "aac"],
    "a.nut": ["-c:v", "ffv1", "-c:a", "flac"],
    "a.gif": ["-an"],
    "a.apng": ["-an", "-f", "apng"],
    "a.mp3": ["-vn"],
    "a.aac": ["-vn"],
    "a.m4a": ["-vn", "-c:a", "aac"],
    "alac.m4a": ["-vn", "-c:a", "alac"],
    "a.opus": ["-vn", "-c:a", "libopus"],
    "a.ogg": ["-vn", "-c:a", "libvorbis"],
    "a.oga": ["-vn", "-c:a", "flac"],
    "a.flac": ["-vn"],
    "a.wav": ["-vn"],
    "float.wav": ["-vn", "-c:a", "pcm_f32le"],
    "adpcm.wav": ["-vn", "-c:a", "adpcm_ms"],
    "a.aiff": ["-vn"],
    "a.au": ["-vn"],
    "a.caf": ["-vn"],
    "a.w64": ["-vn"],
    "a.ac3": ["-vn"],
    "a.mp2": ["-vn"],
    "a.wv": ["-vn"],
    "a.tta": ["-vn"],
    "surround.mka": ["-vn", "-c:a", "libopus", "-ac", "6"],
    "eight.m4a": ["-vn", "-c:a", "aac", "-ac", "8"],
}


def write_seeds(folder: Path) -> list[Path]:
    """One file of every kind that the installed ffmpeg can write, a second and a half each."""
    source = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=12:duration=1.5", "-f", "lavfi", "-i", "anoisesrc=d=1.5:r=16000:a=0.3:seed=1"]
    made = []
    for name, options in _FFMPEG.items():
        path = folder / name
        command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *source, "-pix_fmt", "yuv420p", *options, str(path)]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0 and path.stat().st_size:
            made.append(path)
    chained = folder / "chained.opus"
    chained.write_bytes((folder / "a.opus").read_bytes() * 2)
    joined = folder / "joined.ts"
    joined.write_bytes((folder / "a.ts").read_bytes() * 2)
    return [*made, chained, joined]


def mutate(data: bytes, rng: random.Random) -> list[Change] | int:
    """Changes of bytes (offset, new bytes), or the length that the file is cut to."""
    kind = rng.random()
    if kind < 0.15:
        return rng.randrange(1, len(data))
    near = (lambda: rng.randrange(min(len(data), 1024))) if kind < 0.55 else (lambda: rng.randrange(len(data)))
    if kind > 0.9:  # a run of noise
        at = near()
        return [(at, rng.randbytes(rng.randrange(1, 200))[: len(data) - at])]
    values = (0, 1, 0x7F, 0x80, 0xFF)
    return [
        (near(), bytes([rng.choice(values) if rng.random() < 0.5 else rng.randrange(256)])) for _ in range(rng.choice((1, 1, 2, 4, 16)))
    ]


def apply(data: bytes, change: list[Change] | int) -> bytes:
    if isinstance(change, int):
        return data[:change]
    out = bytearray(data)
    for at, new in change:
        out[at : at + len(new)] = new
    return bytes(out)


def check(path: Path) -> str:
    """Decodes a file. Returns "ok" or "refused"; raises where the result is wrong."""
    import numpy as np

    from omnidrop_cli.config import MediaConfig
    from omnidrop_cli.errors import OmnidropError
    from omnidrop_cli.media.clip import decode_media, plan_clip

    options = MediaConfig(min_pixels=56 * 56, max_pixels=56 * 56)
    try:
        clip = decode_media(path, options)
    except OmnidropError as error:
        if "\n" in error.message or not error.hint:
            raise AssertionError(f"not one line with a hint: {error.message!r}") from error
        return "refused"
    plan = plan_clip(path, options)
    seconds = plan.duration_s
    if clip.waveform is not None and not (np.isfinite(clip.waveform).all() and len(clip.waveform) == plan.samples):
        raise AssertionError(f"waveform of {len(clip.waveform)} samples, {plan.samples} planned")
    if clip.frames is not None and (plan.frames is None or len(clip.frames) != len(plan.frames.packets)):
        raise AssertionError("other frames than planned")
    size = path.stat().st_size
    if seconds > size * MAX_SECONDS_PER_BYTE + HOLD_S or plan.audio_s > size * MAX_SECONDS_PER_BYTE + 90:
        raise AssertionError(f"{seconds:.0f} s ({plan.audio_s:.0f} s of audio) in {size} bytes")
    return "ok"


def _serve(pipe: Connection) -> None:
    import resource

    import av

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    av.logging.set_level(None)
    while (path := pipe.recv()) is not None:
        try:
            pipe.send(check(Path(path)))
        except BaseException as error:
            pipe.send(f"{type(error).__name__}: {error}"[:300])


class Worker:
    """A process that checks files, replaced when it dies or hangs."""

    def __init__(self) -> None:
        self._process: multiprocessing.process.BaseProcess | None = None

    def check(self, path: Path) -> str:
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
            self._process.start()
            theirs.close()
        self._pipe.send(str(path))
        try:
            if self._pipe.poll(TIMEOUT_S):
                return str(self._pipe.recv())
            verdict = "hang"
        except EOFError:
            verdict = "crash"
        self.close()
        return verdict

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def smaller(change: list[Change]) -> Iterator[list[Change]]:
    """A change with one of its bytes left alone."""
    singles = [(at + i, new[i : i + 1]) for at, new in change for i in range(len(new))]
    half = len(singles) // 2
    if half > 4:
        yield singles[:half]
        yield singles[half:]
    for i in range(len(singles) if len(singles) > 1 else 0):
        yield singles[:i] + singles[i + 1 :]


def minimal(data: bytes, change: list[Change] | int, worker: Worker, path: Path, budget: int = 60) -> list[Change] | int:
    """The change cut down as long as the file still fails, in at most `budget` tries."""
    if isinstance(change, int):
        return change
    while budget > 0:
        for candidate in smaller(change):
            budget -= 1
            path.write_bytes(apply(data, candidate))
            if worker.check(path) not in ("ok", "refused"):
                change = candidate
                break
            if budget <= 0:
                return change
        else:
            return change
    return change


def fuzz(count: int, seed: int, keep: Path | None = None, seconds: float | None = None) -> dict[str, object]:
    """Runs `count` inputs, or as many as fit into `seconds`. Returns counts and failures."""
    rng, worker, verdicts, failures = random.Random(seed), Worker(), Counter[str](), []
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        seeds = [(path, path.read_bytes()) for path in write_seeds(folder)]
        for _ in range(count):
            if seconds is not None and time.monotonic() - started > seconds:
                break
            path, data = rng.choice(seeds)
            change = mutate(data, rng)
            target = folder / f"input{path.suffix}"
            target.write_bytes(apply(data, change))
            verdict = worker.check(target)
            verdicts[verdict if verdict in ("ok", "refused", "crash", "hang") else "wrong"] += 1
            if verdicts.total() % 1000 == 0:
                print(f"{verdicts.total()} inputs: {dict(verdicts)}", file=sys.stderr, flush=True)
            if verdict not in ("ok", "refused"):
                least = minimal(data, change, worker, target)
                target.write_bytes(apply(data, least))
                failures.append({"seed_file": path.name, "verdict": verdict, "change": str(least)[:400]})
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(target, keep / f"{len(failures):04d}-{path.name}")
        worker.close()
    return {"inputs": sum(verdicts.values()), "seed": seed, "seeds": len(seeds), **verdicts, "failures": failures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--seconds", type=float)
    options = parser.parse_args()
    print(json.dumps(fuzz(options.count, options.seed, options.keep, options.seconds), indent=1))


if __name__ == "__main__":
    main()
