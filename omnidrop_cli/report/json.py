"""Reports as JSON, both ways, under a version number: the shape of `ask --json`, of a batch row and of a saved report.

Fields are added without a new version; one that goes or changes its meaning raises `SCHEMA`. Units are in the names: `_s` seconds,
`_mb` megabytes (1e6 bytes). Counts of a layer are `[text, audio, video]`. docs/user/json.md describes every field.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from omnidrop_cli.config import GenerationConfig, MediaConfig, ModelConfig, PruningConfig, Request
from omnidrop_cli.errors import UsageError
from omnidrop_cli.options import restored
from omnidrop_cli.outputs import (
    Answer,
    AudioStream,
    Choice,
    ClipFacts,
    Comparison,
    Counts,
    DraftCounts,
    Flops,
    LoadedModel,
    Memory,
    Report,
    SourceFacts,
    Timings,
    Trace,
    VideoStream,
)
from omnidrop_cli.report.alignment import align
from omnidrop_cli.report.kept import attention_from_dict, attention_to_dict, kept_to_dict, token_map_from_dict
from omnidrop_cli.report.text import without_credentials

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SCHEMA = 1

R = TypeVar("R")


def to_dict(report: Report, *, kept: bool = False) -> dict[str, Any]:
    """A report as plain values. `kept` adds which tokens each layer saw, where they are in the clip, and attention, as far as known."""
    return {"schema": SCHEMA, "kind": "report", **_report(report, kept)}


def comparison_to_dict(comparison: Comparison, *, kept: bool = False) -> dict[str, Any]:
    """A comparison as plain values: both reports and what sets them apart. An infinite divergence is null."""
    return {
        "schema": SCHEMA,
        "kind": "comparison",
        "agreement": comparison.agreement,
        "first_difference": comparison.first_difference,
        "word_agreement": align(comparison.full.answer.text, comparison.pruned.answer.text).agreement,
        "first_token_kl": comparison.first_token_kl if math.isfinite(comparison.first_token_kl) else None,
        "repeats_timing_s": {
            "full": [_seconds(timings) for timings in comparison.full_repeats],
            "pruned": [_seconds(timings) for timings in comparison.pruned_repeats],
        },
        "full": _report(comparison.full, kept),
        "pruned": _report(comparison.pruned, kept),
    }


def from_dict(value: Mapping[str, Any]) -> Report:
    """The report back. Raises `ValueError` for another schema, another kind, or a missing field."""
    return _read(value, "report", _to_report)


def comparison_from_dict(value: Mapping[str, Any]) -> Comparison:
    """The comparison back. Raises `ValueError` as `from_dict` does."""
    return _read(value, "comparison", _to_comparison)


def named(result: Report | Comparison, media: Sequence[str]) -> Report | Comparison:
    """A report or comparison of clips of which some were read from elsewhere, such as stdin, under the names they were asked by."""
    if isinstance(result, Comparison):
        return replace(result, full=_named(result.full, media), pruned=_named(result.pruned, media))
    return _named(result, media)


def _named(report: Report, media: Sequence[str]) -> Report:
    clips = (
        clip if name == read else replace(clip, source=replace(clip.source, path=name))
        for clip, name, read in zip(report.clips, media, report.job.all_media, strict=True)
    )
    return replace(report, job=replace(report.job, media=media[0], more=tuple(media[1:])), clips=tuple(clips))


def error_to_dict(media: Sequence[str], question: str, error: BaseException) -> dict[str, Any]:
    """A failure as a row of its own, in place of a report."""
    first, *more = ({"asked": without_credentials(name)} for name in media)
    about = {"type": type(error).__name__, "message": str(error), "hint": getattr(error, "hint", None)}
    return {"schema": SCHEMA, "kind": "error", "media": first, "more_media": more, "question": question, "error": about}


# ---------------------------------------------------------------- writing


def _report(report: Report, kept: bool) -> dict[str, Any]:
    trace = report.trace
    media, *more = map(_media, report.job.all_media, report.clips)
    return {
        "media": media,
        "more_media": more,
        "question": report.job.question,
        "answer": report.answer.text,
        "finish_reason": report.answer.finish_reason,
        "answer_token_ids": list(report.answer.token_ids),
        **({"choices": [asdict(choice) for choice in report.answer.choices]} if report.answer.choices else {}),
        **({"parsed": report.answer.parsed} if report.job.generation.schema is not None else {}),
        **({"prompt_lookup": asdict(report.answer.drafts)} if report.answer.drafts else {}),
        "model": {**asdict(report.model), "reasons": list(report.model.reasons)},
        "pruning": {
            "method": report.method,
            "options": dict(report.method_options),
            "retention_entering": trace.retention_entering,
            "retention_after": trace.retention_after,
            "flops_full": report.flops.full,
            "flops_pruned": report.flops.pruned,
            "flops_encoders": report.flops.encoders,
        },
        "tokens": _tokens(report, kept),
        "timing_s": _seconds(report.timings),
        "features_reused": report.features_reused,
        "memory_mb": {field.name.removesuffix("_mb"): getattr(report.memory, field.name) for field in fields(Memory)},
        "warnings": list(report.warnings),
        "request": _request(report.job),
        **(_kept_blocks(report) if kept else {}),
    }


def _media(asked: str, clip: ClipFacts) -> dict[str, Any]:
    return {
        "asked": without_credentials(asked),
        **asdict(clip.source),
        "has_video": clip.frames > 0,
        "has_audio": clip.audio_s > 0,
        "start_s": clip.start_s,
        "used_s": clip.duration_s,
        "frames": clip.frames,
        "frame_size": list(clip.frame_size) if clip.frame_size else None,
        "fps_effective": clip.fps,
        "audio_s": clip.audio_s,
    }


def _tokens(report: Report, kept: bool) -> dict[str, Any]:
    trace = report.trace
    tokens: dict[str, Any] = {
        "prompt": {**asdict(report.prompt), "total": report.prompt.total},
        "generated": len(report.answer.token_ids),
        "entering": [list(_row(counts)) for counts in trace.entering],
        "leaving": [list(_row(counts)) for counts in trace.leaving],
    }
    if kept and trace.kept:
        tokens["layers_survived"] = _runs(trace)
    return tokens


def _request(job: Request) -> dict[str, Any]:
    return {
        "system": job.system,
        "media": asdict(job.media_options),
        "model": asdict(job.model),
        "method": {**_plain(job.method), "options": dict(job.method.options)},
        "generation": {**asdict(job.generation), "stop": list(job.generation.stop), "choices": list(job.generation.choices)},
    }


def _kept_blocks(report: Report) -> dict[str, Any]:
    trace, blocks = report.trace, dict[str, Any]()
    if trace.kept and report.token_map is not None:
        blocks["kept"] = kept_to_dict(trace, report.token_map)
    if trace.attention is not None:
        blocks["attention"] = attention_to_dict(trace.attention)
    return blocks


def _seconds(timings: Timings) -> dict[str, float]:
    return {field.name.removesuffix("_s"): getattr(timings, field.name) for field in fields(Timings)}


def _plain(record: Any) -> dict[str, Any]:
    """A record's fields, one deep: `asdict` would copy mappings it cannot rebuild."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _row(counts: Counts) -> tuple[int, int, int]:
    return counts.text, counts.audio, counts.video


def _runs(trace: Trace) -> list[list[int]]:
    """[layers, tokens] pairs in prompt order: the next `tokens` prompt tokens are in the first `layers` of the kept sets.

    Survivors of a layer are survivors of all before it, so one number per token is enough; neighbours often have the same.
    """
    import numpy as np

    depth = np.zeros(trace.prompt.total, np.int64)
    for rows in trace.kept:
        depth[rows] += 1
    starts = np.flatnonzero(np.diff(depth, prepend=-1))
    lengths = np.diff(starts, append=len(depth))
    return [[int(depth[start]), int(length)] for start, length in zip(starts, lengths, strict=True)]


# ---------------------------------------------------------------- reading


def _read(value: Mapping[str, Any], kind: str, make: Callable[[Mapping[str, Any]], R]) -> R:
    if value.get("schema") != SCHEMA:
        raise ValueError(f"this report has schema {value.get('schema')}; this version reads {SCHEMA}")
    if value.get("kind") != kind:
        raise ValueError(f"this is a {value.get('kind')}, not a {kind}")
    try:
        return make(value)
    except (KeyError, TypeError, AttributeError, UsageError) as error:
        raise ValueError(f"this {kind} is incomplete: {error}") from error


def _to_comparison(value: Mapping[str, Any]) -> Comparison:
    kl, repeats = value["first_token_kl"], value.get("repeats_timing_s", {})  # earlier reports have no repeats
    return Comparison(
        full=_to_report(value["full"]),
        pruned=_to_report(value["pruned"]),
        agreement=value["agreement"],
        first_difference=value["first_difference"],
        first_token_kl=math.inf if kl is None else kl,
        full_repeats=tuple(map(_to_timings, repeats.get("full", ()))),
        pruned_repeats=tuple(map(_to_timings, repeats.get("pruned", ()))),
    )


def _to_report(value: Mapping[str, Any]) -> Report:
    media = [value["media"], *value.get("more_media", ())]  # earlier reports have one clip
    pruning, request = value["pruning"], value["request"]
    model = _record(LoadedModel, value["model"], reasons=tuple(value["model"]["reasons"]))
    return Report(
        job=_job([one["asked"] for one in media], value["question"], request),
        model=model,
        clips=tuple(map(_clip_facts, media)),
        prompt=_record(Counts, value["tokens"]["prompt"]),
        method=pruning["method"],
        method_options=pruning["options"],
        trace=_trace(pruning["method"], value["tokens"], value.get("attention")),
        answer=_to_answer(value),
        timings=_to_timings(value["timing_s"]),
        memory=Memory(**{name if name == "kind" else f"{name}_mb": size for name, size in value["memory_mb"].items()}),
        flops=Flops(pruning["flops_full"], pruning["flops_pruned"], pruning.get("flops_encoders", 0)),
        warnings=tuple(value["warnings"]),
        features_reused=value["features_reused"],
        token_map=token_map_from_dict(value["kept"]) if "kept" in value else None,
    )


def _clip_facts(media: Mapping[str, Any]) -> ClipFacts:
    return ClipFacts(
        source=_record(SourceFacts, media, video=_optional(VideoStream, media["video"]), audio=_optional(AudioStream, media["audio"])),
        start_s=media["start_s"],
        duration_s=media["used_s"],
        frames=media["frames"],
        frame_size=None if media["frame_size"] is None else (media["frame_size"][0], media["frame_size"][1]),
        fps=media["fps_effective"],
        audio_s=media["audio_s"],
    )


def _to_answer(value: Mapping[str, Any]) -> Answer:
    choices = tuple(_record(Choice, choice) for choice in value.get("choices", ()))
    drafts = _optional(DraftCounts, value.get("prompt_lookup"))
    return Answer(value["answer"], tuple(value["answer_token_ids"]), value["finish_reason"], choices, value.get("parsed"), drafts)


def _to_timings(value: Mapping[str, float]) -> Timings:
    return Timings(**{f"{name}_s": seconds for name, seconds in value.items() if f"{name}_s" in _names(Timings)})


def _job(media: Sequence[str], question: str, request: Mapping[str, Any]) -> Request:
    return Request(
        media=media[0],
        more=tuple(media[1:]),
        question=question,
        system=request["system"],
        media_options=restored(MediaConfig, request["media"]),
        model=restored(ModelConfig, request["model"]),
        method=restored(PruningConfig, request["method"]),
        generation=_generation(request["generation"]),
    )


def _generation(saved: Mapping[str, Any]) -> GenerationConfig:
    return restored(GenerationConfig, saved, stop=tuple(saved["stop"]), choices=tuple(saved.get("choices", ())))


def _trace(method: str, tokens: Mapping[str, Any], attention: Mapping[str, Any] | None) -> Trace:
    entering, leaving = (tuple(Counts(*row) for row in tokens[name]) for name in ("entering", "leaving"))
    kept = _kept(tokens["layers_survived"], len(entering) + 1) if "layers_survived" in tokens else ()
    received = None if attention is None else attention_from_dict(attention)
    return Trace(method, _record(Counts, tokens["prompt"]), entering, leaving, kept, received)


def _kept(runs: Sequence[Sequence[int]], sets: int) -> tuple[NDArray[np.int64], ...]:
    import numpy as np

    layers, lengths = np.array(runs, np.int64).reshape(-1, 2).T
    depth = np.repeat(layers, lengths)
    return tuple(np.flatnonzero(depth > index).astype(np.int64) for index in range(sets))


def _record(cls: type[R], value: Mapping[str, Any], **replaced: Any) -> R:
    """A record from a mapping that may hold more than its fields, so that an older version reads a newer report."""
    return cls(**{name: value[name] for name in _names(cls) if name in value} | replaced)


def _optional(cls: type[R], value: Mapping[str, Any] | None) -> R | None:
    return None if value is None else _record(cls, value)


def _names(cls: type) -> set[str]:
    return {field.name for field in fields(cls)}
