"""Overlap of our kept sets with the published rules written as slow loops, at several frame rates.

    python -m tests.benchmarks.published_sets

Prints one Markdown table: the Jaccard index of kept video tokens, per method and seconds per temporal grid, on structured and on
random embeddings. The reference uses the published layout (`tests/prune/published.py`), where two grids and 50 audio tokens form a
window by index whatever the frame rate. "true" is our selection on a prompt with true seconds, "published" on one with 1.0 s a grid.
DASH's published number of tokens follows from the clip, ours from the ratio; "as many tokens" gives ours the published number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from omnidrop_cli.config import PruningConfig
from omnidrop_cli.prune.base import InputView, PromptInfo
from omnidrop_cli.prune.methods import get_method
from tests.prune import published
from tests.prune.fakes import input_view

GRIDS, CELLS, SIZE = 32, (6, 8), 48

Reference = Callable[[Tensor, InputView], set[int]]


def omnisift(video: Tensor, view: InputView) -> set[int]:
    return published.omnisift_video(video, published.index_windows(GRIDS, len(view.audio)), 0.67)


def omnizip(video: Tensor, view: InputView) -> set[int]:
    assert view.audio_attention is not None
    n = len(view.audio)
    sound = published.omnizip_audio(view.audio_attention, round(0.7 * n) + round(0.05 * n), round(0.05 * n))
    return published.omnizip_video(video, sound, published.index_windows(GRIDS, n), 0.6, rule="v1", halves=True)


def seats(video: Tensor, view: InputView) -> set[int]:
    assert view.video_attention is not None
    return published.seats_input(video.flatten(0, 1), view.video_attention, 2 * SIZE, 1.4 * 0.3)


def dash(video: Tensor, view: InputView) -> set[int]:
    assert view.audio_attention is not None
    n = len(view.audio)
    audio = published.dash_audio(view.audio, view.audio_attention, round(0.55 * n) + round(0.05 * n), round(0.05 * n))
    return published.dash_video(video, view.audio, audio, 0.76, halves=True)


METHODS: dict[str, tuple[PruningConfig, Reference]] = {
    "omnisift paper-35": (PruningConfig("omnisift", preset="paper-35", options={"selector": "untrained"}), omnisift),
    "omnizip paper-45": (PruningConfig("omnizip", preset="paper-45"), omnizip),
    "seats paper-35, stage I": (PruningConfig("seats", preset="paper-35"), seats),
    "dash paper": (PruningConfig("dash", preset="paper"), dash),
}


def overlap(
    choice: PruningConfig, reference: Reference, seconds: float, layout_seconds: float, kind: str, *, as_many: bool = False
) -> float:
    """Jaccard of the kept video. `as_many` gives the method the number of video tokens that the reference keeps."""
    audio = round(25 * seconds * GRIDS)
    video, sound = (published.scenes if kind == "structured" else published.noise)(GRIDS, SIZE, audio)
    tokens = published.timed_map(layout_seconds, GRIDS, audio, CELLS)
    view = replace(input_view(tokens), video=video.flatten(0, 1), audio=sound)
    expected = reference(video, view)
    if as_many:
        choice = replace(choice, options={**choice.options, "video_keep": str(len(expected) / (GRIDS * SIZE))})
    plan = get_method(choice).plan(PromptInfo(tokens, 28))
    assert plan.input_stage is not None
    return published.jaccard(expected, plan.input_stage(view).video.tolist())


def main() -> None:
    torch.set_num_threads(1)
    print("| method | embeddings | layout | " + " | ".join(f"{s:g} s" for s in published.SECONDS_PER_GRID) + " |")
    print("|---" * (3 + len(published.SECONDS_PER_GRID)) + "|")
    for name, (choice, reference) in METHODS.items():
        for kind in ("structured", "random"):
            for layout in ("true", "published"):
                for as_many in (False, True) if name.startswith("dash") else (False,):
                    values = [
                        overlap(choice, reference, s, s if layout == "true" else 1.0, kind, as_many=as_many)
                        for s in published.SECONDS_PER_GRID
                    ]
                    number = ", as many tokens" if as_many else ""
                    print(f"| {name}{number} | {kind} | {layout} | " + " | ".join(f"{value:.2f}" for value in values) + " |", flush=True)


if __name__ == "__main__":
    main()
