"""`omnidrop inspect`: what a clip holds and what it will cost, before anything is decoded or loaded.

Knows: how the estimates read. Does not know how they are made (`media/sampling.py`, `model/memory_estimate.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from omnidrop_cli.commands._console import ConsoleFlags, JsonFlag, Screen, dump, emit, stdout_console
from omnidrop_cli.commands._options import Media, MediaFlags, OfflineFlag
from omnidrop_cli.report.numbers import megabytes, seconds
from omnidrop_cli.report.text import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

    from omnidrop_cli.media.sampling import Estimate
    from omnidrop_cli.outputs import SourceFacts

EXAMPLES = ("omnidrop inspect talk.mp4", "omnidrop inspect talk.mp4 --end 5:00 --max-frames 128", "omnidrop inspect talk.mp4 --json")

KEEPS = {1.0: 0, 0.5: 2, 0.3: 0, 0.2: 3, 0.1: 1}
"""Retention ratios of the table; on narrow terminals those of the highest number are left out first."""

TEXT_TOKENS = 64
"""Qwen's system prompt, the chat markers and a question of a line."""


def inspect(media: Media, part: MediaFlags, console: ConsoleFlags, offline: OfflineFlag = False, as_json: JsonFlag = False) -> None:
    """Show a clip's streams, the frames and tokens it becomes, and the memory that takes. Needs no model.

    Memory is a guess for a GPU and a prompt that many tokens long in every layer; frames and tokens are what ask will use.
    """
    from omnidrop_cli.media.probe import probe
    from omnidrop_cli.media.sampling import estimate
    from omnidrop_cli.media.source import fetch

    options = part.record()
    with Screen(console) as screen:
        screen.stage("fetch", media)
        path = fetch(media, offline=offline, observer=screen)
        screen.stage("probe", media)
        source = probe(path)
    expected = estimate(source, options)
    found = _describe(source, expected)
    if as_json:
        emit(dump({"schema": 1, "kind": "inspection", **found}), None)
    else:
        out = stdout_console(console)
        for piece in _render(source, expected, found):
            out.print(piece)


def _describe(source: SourceFacts, expected: Estimate) -> dict[str, Any]:
    media = expected.audio_tokens + expected.video_tokens
    return {
        "media": asdict(source),
        "frames": expected.frames,
        "frame_size": list(expected.frame_size) if expected.frame_size else None,
        "fps_effective": expected.fps,
        "audio_s": expected.audio_s,
        "tokens": {"text": TEXT_TOKENS, "audio": expected.audio_tokens, "video": expected.video_tokens, "media": media},
        "mean_tokens_by_keep": {f"{keep:g}": TEXT_TOKENS + round(keep * media) for keep in KEEPS},
        "memory_guess_mb": list(_guesses(expected)),
    }


def _guesses(expected: Estimate) -> Iterator[dict[str, Any]]:
    from omnidrop_cli.model.memory_estimate import guess
    from omnidrop_cli.model.sizes import QWEN_3B, QWEN_7B

    patches = 0 if expected.frame_size is None else expected.frames // 2 * (expected.frame_size[0] // 14) * (expected.frame_size[1] // 14)
    media = expected.audio_tokens + expected.video_tokens
    for model, sizes in (("3b", QWEN_3B), ("7b", QWEN_7B)):
        for quant in ("nf4", "int8", "none"):
            peaks = {}
            for keep in KEEPS:
                lengths = [TEXT_TOKENS + round(keep * media)] * sizes.decoder.num_layers
                guessed = guess(sizes, quant, lengths, video_patches=patches, audio_windows=math.ceil(expected.audio_s / 2))
                peaks[f"{keep:g}"] = round(guessed.peak_mb)
            yield {"model": model, "quant": quant, "weights": round(guessed.weights_mb), "peak_by_keep": peaks}


def _render(source: SourceFacts, expected: Estimate, found: Mapping[str, Any]) -> Iterator[RenderableType]:
    from rich.text import Text

    from omnidrop_cli.report.layout import Column, DataTable, facts

    yield facts(_facts(source, expected))
    yield Text()
    columns = [Column("", right=False)]
    columns += [Column("full" if keep == 1 else f"keep {keep:g}", rank=KEEPS[keep]) for keep in KEEPS]
    rows = [(f"{name} tokens", *(str(round(keep * found["tokens"][name])) for keep in KEEPS)) for name in ("audio", "video")]
    rows.append(("with the text", *(str(found["mean_tokens_by_keep"][f"{keep:g}"]) for keep in KEEPS)))
    for row in found["memory_guess_mb"]:
        rows.append((f"memory {row['model']} {row['quant']}", *map(megabytes, row["peak_by_keep"].values())))
    yield DataTable(tuple(columns), tuple(rows))
    yield Text("Tokens are means over the layers; memory is a guess of the peak on a GPU.", style="dim")


def _facts(source: SourceFacts, expected: Estimate) -> Iterator[tuple[str, RenderableType]]:
    from rich.text import Text

    from omnidrop_cli.report.layout import phrases

    yield "file", Text(one_line(source.path))
    yield "", phrases(source.container.replace(",", "/"), megabytes(source.size_bytes / 1e6), seconds(source.duration_s))
    if source.video is not None:
        v = source.video
        turned = f"turned by {v.rotation_deg} degrees" if v.rotation_deg else ""
        yield "video", phrases(v.codec, f"{v.width}x{v.height}", f"{v.fps:.4g} fps", turned)
    if source.audio is not None:
        a = source.audio
        yield "audio", phrases(a.codec, f"{a.sample_rate_hz} Hz", f"{a.channels} channel{'s' * (a.channels != 1)}")
    taken = []
    if expected.frame_size is not None:
        rate = f" at {expected.fps:.3g} fps" if expected.fps else ""
        taken.append(f"{expected.frames} frames of {expected.frame_size[1]}x{expected.frame_size[0]}{rate}")
    if expected.audio_s:
        taken.append(f"{seconds(expected.audio_s)} of audio")
    yield "sampled", phrases(*taken) if taken else Text("nothing")
