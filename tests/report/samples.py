"""Reports made by hand, of the size a real one has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omnidrop_cli.config import GenerationConfig, MediaConfig, ModelConfig, PruningConfig, Request
from omnidrop_cli.outputs import (
    Answer,
    AttentionTrace,
    AudioStream,
    ClipFacts,
    Comparison,
    Counts,
    Flops,
    LoadedModel,
    Memory,
    Modality,
    Report,
    SourceFacts,
    Timings,
    TokenMap,
    Trace,
    VideoStream,
)
from omnidrop_cli.prompt.layout import assemble, lay_out
from omnidrop_cli.prompt.spec import PromptSpec

SPEC = PromptSpec(*range(9))

PROMPT = Counts(text=42, audio=150, video=864)

DEEP = Counts(text=42, audio=7500, video=27648)


def trace(keeps: list[int], prompt: Counts = PROMPT, method: str = "omnidrop") -> Trace:
    """`keeps[0]` media tokens enter layer 0, `keeps[l + 1]` leave layer l; the first of each kind survive."""
    is_audio = np.arange(prompt.total) < prompt.audio
    sets = []
    for keep in keeps:
        audio = round(keep * prompt.audio / prompt.media) if prompt.media else 0
        media = np.concatenate([np.arange(audio), prompt.audio + np.arange(keep - audio)])
        sets.append(np.concatenate([media, np.arange(prompt.media, prompt.total)]).astype(np.int64))
    counts = []
    for rows in sets:
        media = rows[rows < prompt.media]
        counts.append(Counts(prompt.text, int(is_audio[media].sum()), int((~is_audio[media]).sum())))
    return Trace(method, prompt, tuple(counts[:-1]), tuple(counts[1:]), tuple(sets))


KEEPS = [451] * 4 + [440, 430, 380, 300, 220, 140, 80, 40, 29]


def clip(path: str = "talk.mp4", **changes: object) -> ClipFacts:
    streams = VideoStream("h264", 1280, 720, 30.0, 7.5, 90, 225), AudioStream("aac", 48_000, 2, 7.5)
    made = ClipFacts(SourceFacts(path, "mov,mp4", 123_456, 7.5, *streams), 0.0, 6.0, 12, (252, 448), 2.0, 6.0)
    return replace(made, **changes)  # type: ignore[arg-type]  # field names


def report(**changes: object) -> Report:
    made = Report(
        job=Request(
            media="talk.mp4",
            question="What is said?",
            media_options=MediaConfig(end_s=6.0),
            model=ModelConfig("7b"),
            method=PruningConfig(keep=0.3, options={"beta": "20"}),
            generation=GenerationConfig(stop=("\n\n",)),
        ),
        model=LoadedModel("7b", "Qwen/Qwen2.5-Omni-7B", "nf4", "cuda:0", "bfloat16", "sdpa", 12, "abc123", ("7b: 24 GB",), None),
        clips=(clip(),),
        prompt=PROMPT,
        method="omnidrop",
        method_options={"keep": 0.3, "beta": 20.0, "shape": "sigmoid"},
        trace=trace(KEEPS),
        answer=Answer("The quick brown fox.", tuple(range(6)), "eos"),
        timings=Timings(0.0, 0.21, 0.012, 14.2, 0.31, 0.104, 0.26, 14.8, 15.1),
        memory=Memory(5123.0, 21.5, 60.6, 7123.4, "allocated on the GPU"),
        flops=Flops(7_700_000_000_000, 2_300_000_000_000),
        warnings=("the last 0.1 s of sound are missing",),
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # field names


def deep_report() -> Report:
    """A pruned report of 28 layers of which no two neighbours are alike from layer 4 on, and with counts of five digits."""
    prompt = DEEP
    keeps = [15818] * 4 + [round(15818 * 0.9**depth) for depth in range(1, 26)]
    made = report(prompt=prompt, trace=trace(keeps, prompt))
    return replace(made, model=replace(made.model, num_layers=28))


def full_report() -> Report:
    return report(
        job=replace(report().job, method=PruningConfig("none")),
        method="none",
        method_options={},
        trace=trace([PROMPT.media] * 13, method="none"),
        answer=Answer("The quick brown fox jumps.", tuple(range(8)), "eos"),
        timings=Timings(0.0, 0.21, 0.012, 14.2, 0.31, 0.412, 0.41, 15.1, 15.5),
        memory=Memory(5123.0, 60.6, 60.6, 7500.0, "allocated on the GPU"),
        flops=Flops(7_700_000_000_000, 7_700_000_000_000),
    )


def comparison() -> Comparison:
    return Comparison(full_report(), report(), agreement=0.625, first_difference=5, first_token_kl=0.0312)


def token_map(grids: int = 6, rows: int = 9, columns: int = 16, audio: int = 150, seconds_per_grid: float = 1.0) -> TokenMap:
    """Tokens of a prompt as `prompt.layout` places them: 14 of text, a clip, 20 of which the last 8 are the question."""
    block = lay_out(
        SPEC,
        grid_thw=(grids, 2 * rows, 2 * columns) if grids else None,
        seconds_per_grid=seconds_per_grid if grids else None,
        audio_tokens=audio,
    )
    return assemble(np.zeros(34, np.int64), np.arange(34) >= 26, 14, [block]).tokens


def several_clips(*shapes: tuple[int, int, int, int], seed: int = 0) -> Report:
    """A placed report about a clip per shape: grids, rows, columns and audio tokens."""
    blocks = [
        lay_out(
            SPEC, grid_thw=(grids, 2 * rows, 2 * columns) if grids else None, seconds_per_grid=1.0 if grids else None, audio_tokens=audio
        )
        for grids, rows, columns, audio in shapes
    ]
    made = placed_report(assemble(np.zeros(34, np.int64), np.arange(34) >= 26, 14, blocks).tokens, seed=seed)
    names = [f"clip-{number}.mp4" for number in range(1, len(shapes) + 1)]
    return replace(made, job=replace(made.job, media=names[0], more=tuple(names[1:])), clips=tuple(clip(name) for name in names))


def nested_trace(tokens: TokenMap, share: list[float], seed: int = 0, method: str = "omnidrop") -> Trace:
    """`share[l]` of the audio and video tokens enter layer l, the last value leaves the last layer; random but nested sets."""
    media = (tokens.modality != Modality.TEXT).nonzero()[0]
    order = np.random.default_rng(seed).permutation(media)
    text = tokens.rows(Modality.TEXT)
    sets = [np.sort(np.concatenate([text, order[: round(part * len(media))]])) for part in share]
    counts = [Counts(*(int((tokens.modality[one] == modality).sum()) for modality in Modality)) for one in sets]
    return Trace(method, tokens.counts(), tuple(counts[:-1]), tuple(counts[1:]), tuple(sets))


SHARE = [0.5] * 4 + [0.4, 0.4, 0.3, 0.2, 0.1, 0.1, 0.05, 0.02, 0.0]


def placed_report(tokens: TokenMap | None = None, *, attention: bool = True, seed: int = 0, method: str = "omnidrop") -> Report:
    """A pruned report of 12 layers with the places of its tokens and attention in the layers that drop."""
    tokens = token_map() if tokens is None else tokens
    made = nested_trace(tokens, SHARE, seed, method)
    received = None
    if attention:
        chunks, layers = int(tokens.chunk.max()) + 1, (3, 5, 6, 7)
        mass = np.random.default_rng(seed).random((len(layers), 2, chunks)).astype(np.float32) / (4 * chunks)
        received = AttentionTrace(layers, ("query",) * len(layers), mass, tuple(int(made.kept[layer][20]) for layer in layers))
    made = replace(made, attention=received)
    return report(prompt=tokens.counts(), trace=made, token_map=tokens, method=method)
