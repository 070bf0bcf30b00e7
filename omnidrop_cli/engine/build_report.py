"""The report of an answer: stages, memory and FLOPs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from omnidrop_cli.engine import metrics
from omnidrop_cli.outputs import SAMPLE_RATE_HZ, Answer, Clip, ClipFacts, Flops, Memory, Prompt, Report, Timings

if TYPE_CHECKING:
    from omnidrop_cli.engine.encoded_prompt import EncodedPrompt
    from omnidrop_cli.engine.prefill import Prefilled
    from omnidrop_cli.model.sizes import DecoderSizes
    from omnidrop_cli.model.thinker import Thinker


def build_report(thinker: Thinker, encoded: EncodedPrompt, prefilled: Prefilled, answer: Answer, kv_bytes: int) -> Report:
    """The report of one answer. `kv_bytes` is the cache right after the prefill; the device's memory peak is read here."""
    trace, prompt = prefilled.trace, encoded.prompt
    return Report(
        job=encoded.request,
        model=thinker.loaded,
        clips=tuple(map(_clip_facts, encoded.clips)),
        prompt=prompt.token_map.counts(),
        method=encoded.method.name,
        method_options={**encoded.method.describe(), **prefilled.notes},
        trace=trace,
        answer=answer,
        timings=timings_of(encoded.seconds),
        memory=_memory(thinker, encoded.peak_mb, kv_bytes, len(prompt), sum(trace.kv_lengths)),
        flops=replace(flops_of(thinker.sizes, len(prompt), trace.kv_lengths), encoders=_encoder_flops(thinker, prompt)),
        warnings=(*(warning for clip in encoded.clips for warning in clip.warnings), *prompt.warnings, *encoded.warnings),
        features_reused=encoded.features.reused,
        token_map=prompt.token_map,
    )


def _clip_facts(clip: Clip) -> ClipFacts:
    return ClipFacts(
        source=clip.source,
        start_s=clip.start_s,
        duration_s=clip.duration_s,
        frames=0 if clip.frames is None else len(clip.frames),
        frame_size=None if clip.frames is None else (clip.frames.shape[2], clip.frames.shape[3]),
        fps=clip.fps,
        audio_s=0.0 if clip.waveform is None else len(clip.waveform) / SAMPLE_RATE_HZ,
    )


def timings_of(seconds: Mapping[str, float]) -> Timings:
    """Stages as clocked. Where the clip decoded while the model loaded, "open" is what both took together on the wall."""
    overlapped = {"decode", "load"} if "open" in seconds else set()
    total = sum(value for name, value in seconds.items() if name not in overlapped)
    return Timings(
        **{f"{name}_s": value for name, value in seconds.items() if name != "open"},
        first_token_s=total - seconds.get("generate", 0.0),
        total_s=total,
    )


def _memory(thinker: Thinker, encoders_peak_mb: float, kv_bytes: int, tokens: int, rows: int) -> Memory:
    """`rows` are the cached rows of all layers together."""
    return Memory(
        weights_mb=thinker.weights_mb,
        kv_mb=kv_bytes / 1e6,
        kv_full_mb=kv_bytes / rows * tokens * thinker.sizes.num_layers / 1e6,
        peak_mb=max(encoders_peak_mb, metrics.peak_mb(thinker.device)),
        kind=metrics.memory_kind(thinker.device),
    )


def _encoder_flops(thinker: Thinker, prompt: Prompt) -> int:
    sizes = thinker.all_sizes
    return sum(
        metrics.encoder_flops(sizes, grid_thw=one.grid_thw, mel_frames=0 if one.mel is None else one.mel.shape[1]) for one in prompt.media
    )


def flops_of(g: DecoderSizes, tokens: int, entering: Sequence[int]) -> Flops:
    """Exact cost of a prefill of `tokens` whose layer l sees `entering[l]` of them, and that of the unpruned one."""

    def of(lengths: Sequence[int]) -> int:
        return metrics.prefill_flops(
            lengths, hidden=g.hidden, heads=g.heads, kv_heads=g.kv_heads, head_dim=g.head_dim, mlp=g.mlp, vocab=g.vocab
        )

    return Flops(full=of([tokens] * g.num_layers), pruned=of(entering))
