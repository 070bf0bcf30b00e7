"""`omnidrop inspect`: what a clip holds, and the frames, tokens and memory it becomes for the model that will answer.

Plans the clip as `ask` does (`media/clip.py`), without decoding it or loading a model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from omnidrop_cli.commands._console import Console, dump, emit
from omnidrop_cli.commands._options import ConsoleFlags, JsonFlags, MediaOrStdin, UnloadedFlags
from omnidrop_cli.config import FetchConfig, MediaConfig, ModelConfig
from omnidrop_cli.report.numbers import megabytes, seconds
from omnidrop_cli.report.text import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

    from omnidrop_cli.media.clip import ClipPlan
    from omnidrop_cli.model.gpu_memory import GpuMemory
    from omnidrop_cli.model.names import ModelSpec
    from omnidrop_cli.outputs import SourceFacts

EXAMPLES = (
    "omnidrop inspect talk.mp4",
    "omnidrop inspect talk.mp4 --model 7b --end 5:00 --max-frames 128",
    "omnidrop inspect talk.mp4 --json",
)

KEEPS = {1.0: 0, 0.5: 2, 0.3: 0, 0.2: 3, 0.1: 1}
"""Retention ratios of the table; on narrow terminals those of the highest number are left out first."""


def inspect(
    media: MediaOrStdin, part: MediaConfig, fetching: FetchConfig, model: UnloadedFlags, result: JsonFlags, console: ConsoleFlags
) -> None:
    """Show a clip's streams, the frames and tokens it becomes, and the memory that takes. Loads no model.

    Frames and tokens are those that `ask` uses. Memory is an estimate for a GPU and a prompt of that many tokens in every layer. With an
    NVIDIA GPU, "longest" is the length of clip that fits its free memory.
    """
    from omnidrop_cli.engine import pipeline

    pipeline.start_decoder()
    from omnidrop_cli.media.source import fetch
    from omnidrop_cli.media.spool import spooled
    from omnidrop_cli.model.names import resolve

    spec = resolve(ModelConfig(name=model.name))
    options = spec.frame_bounds.fill(part)
    with Console(console) as screen:
        screen.stage("fetch", media)
        with spooled(media) as file:
            fetched = fetch(file, fetching, subtitles=part.subtitles, offline=model.offline, progress=screen)
            screen.stage("probe", media)
            plan = pipeline.plan(fetched.path, options)
            plan = replace(plan, warnings=(*plan.warnings, *fetched.warnings))
            for warning in plan.warnings:
                screen.warn(warning)
    if file != media:
        plan = replace(plan, scan=replace(plan.scan, facts=replace(plan.scan.facts, path=media)))
    found = _describe(plan, spec)
    if result.as_json:
        emit(dump({"schema": 1, "kind": "inspection", **found}))
    else:
        screen.print(*_render(plan, found))


def _describe(plan: ClipPlan, spec: ModelSpec) -> dict[str, Any]:
    from omnidrop_cli.model.clip_fit import TEXT_TOKENS
    from omnidrop_cli.model.gpu_memory import gpu_memory
    from omnidrop_cli.prompt.counts import count_audio_tokens, count_mel_frames, count_video_tokens

    gpu = gpu_memory()
    frames = plan.frames
    text = TEXT_TOKENS + _subtitle_tokens(plan)
    audio = count_audio_tokens(count_mel_frames(plan.samples))
    video = 0 if frames is None else count_video_tokens(len(frames.packets), *frames.size)
    return {
        "media": asdict(plan.source),
        "model": spec.name,
        "frames": 0 if frames is None else len(frames.packets),
        "frame_size": None if frames is None else list(frames.size),
        "fps_effective": None if frames is None else frames.fps,
        "audio_s": plan.audio_s,
        "warnings": list(plan.warnings),
        "tokens": {"text": text, "audio": audio, "video": video, "media": audio + video},
        "mean_tokens_by_keep": {f"{keep:g}": text + round(keep * (audio + video)) for keep in KEEPS},
        "gpu": None if gpu is None else asdict(gpu),
        "memory_guess_mb": list(_guesses(plan, spec, audio + video, gpu)),
        "quant_head_mb": _head_change(spec),
    }


def _head_change(spec: ModelSpec) -> dict[str, int] | None:
    """What `--quant-head` adds to every peak; None for a model whose sizes are not known, and for the small built-in one."""
    from omnidrop_cli.model.memory_estimate import head_change_mb

    if spec.sizes is None or spec.kind == "builtin":
        return None
    return {quant: round(change) for quant, change in head_change_mb(spec.sizes.decoder).items()}


def _subtitle_tokens(plan: ClipPlan) -> int:
    """About how many tokens the subtitles are: one for four characters, and eight for each time stamp."""
    return 0 if plan.subtitles is None else plan.subtitles.characters // 4 + 8 * len(plan.subtitles.lines)


def _guesses(plan: ClipPlan, spec: ModelSpec, tokens: int, gpu: GpuMemory | None) -> Iterator[dict[str, Any]]:
    """Memory by quantisation and retention ratio; nothing for a model whose sizes are not known before it is downloaded."""
    from omnidrop_cli.model.clip_fit import TEXT_TOKENS, ModelMemory

    if spec.sizes is None:
        return
    frames = plan.frames
    sizes = {
        "text": TEXT_TOKENS + _subtitle_tokens(plan),
        "video_patches": 0 if frames is None else len(frames.packets) // 2 * (frames.size[0] // 14) * (frames.size[1] // 14),
        "audio_windows": math.ceil(plan.audio_s / 2),
    }
    for quant in ("none",) if spec.kind == "builtin" else ("nf4", "int8", "none"):
        model = ModelMemory(spec.sizes, quant, plan.options)
        guesses = {f"{keep:g}": model.of_tokens(tokens, keep, **sizes) for keep in KEEPS}
        row: dict[str, Any] = {"model": spec.name, "quant": quant, "weights": round(guesses["1"].weights_mb)}
        row["peak_by_keep"] = {keep: round(guessed.peak_mb) for keep, guessed in guesses.items()}
        if gpu is not None:
            row["longest_s_by_keep"] = {f"{keep:g}": model.longest_s(keep, gpu.free) for keep in KEEPS}
        yield row


def _render(plan: ClipPlan, found: Mapping[str, Any]) -> Iterator[RenderableType]:
    from rich.text import Text

    from omnidrop_cli.model.clip_fit import spoken_length
    from omnidrop_cli.model.memory_estimate import spoken_head_change
    from omnidrop_cli.report.columns import Column, DataTable, facts

    yield facts((*_facts(plan.source), ("sampled", _sampled(plan)), ("model", Text(one_line(found["model"])))))
    yield Text()
    columns = [Column("", right=False)]
    columns += [Column("full" if keep == 1 else f"keep {keep:g}", rank=KEEPS[keep]) for keep in KEEPS]
    rows = [(f"{name} tokens", *(str(round(keep * found["tokens"][name])) for keep in KEEPS)) for name in ("audio", "video")]
    rows.append(("with the text", *(str(found["mean_tokens_by_keep"][f"{keep:g}"]) for keep in KEEPS)))
    for row in found["memory_guess_mb"]:
        weights = "bf16" if row["quant"] == "none" else row["quant"]
        rows.append((f"memory {weights}", *map(megabytes, row["peak_by_keep"].values())))
        if found["gpu"] is not None:
            rows.append((f"longest {weights}", *map(spoken_length, row["longest_s_by_keep"].values())))
    yield DataTable(tuple(columns), tuple(rows))
    yield Text("Tokens are means over the layers; memory is a guess of the peak on a GPU.", style="dim")
    if found["quant_head_mb"] is not None:
        yield Text(spoken_head_change(found["quant_head_mb"]), style="dim")
    if (gpu := found["gpu"]) is not None:
        free = f"{gpu['free'] / 1e9:.1f} of the GPU's {gpu['total'] / 1e9:.1f} GB are free"
        yield Text(f'{free}: "longest" is the length of clip that fits, by the same guess.', style="dim")


def _facts(source: SourceFacts) -> Iterator[tuple[str, RenderableType]]:
    from rich.text import Text

    from omnidrop_cli.report.columns import phrases

    yield "file", Text(one_line(source.path))
    yield "", phrases(source.container.replace(",", "/"), megabytes(source.size_bytes / 1e6), seconds(source.duration_s))
    if source.video is not None:
        v = source.video
        turned = f"turned by {v.rotation_deg} degrees" if v.rotation_deg else ""
        pixels = f"pixels {v.pixel_aspect:.3g}:1" if v.pixel_aspect != 1 else ""
        yield "video", phrases(v.codec, f"{v.width}x{v.height}", pixels, f"{v.fps:.4g} fps", turned, "mirrored" if v.mirrored else "")
    if source.audio is not None:
        a = source.audio
        yield "audio", phrases(a.codec, f"{a.sample_rate_hz} Hz", f"{a.channels} channel{'s' * (a.channels != 1)}")
    if source.subtitles is not None:
        yield "subtitles", Text(one_line(source.subtitles))


def _sampled(plan: ClipPlan) -> RenderableType:
    from omnidrop_cli.report.columns import phrases

    taken = []
    if (frames := plan.frames) is not None:
        taken.append(f"{len(frames.packets)} frames of {frames.size[1]}x{frames.size[0]} at {frames.fps:.3g} fps")
    if plan.samples:
        taken.append(f"{seconds(plan.audio_s)} of audio")
    return phrases(*taken)
