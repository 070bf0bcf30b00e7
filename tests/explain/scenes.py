"""Explanations for tests: a real short clip's pictures, with reports made by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from omnidrop_cli.config import MediaConfig
from omnidrop_cli.explain.pictures import film_of, sound_of
from omnidrop_cli.explain.record import Explanation
from omnidrop_cli.media.clip import decode_media
from omnidrop_cli.media.source import BUNDLED
from omnidrop_cli.outputs import Answer, Clip, Report
from tests.report import samples

DEMO = Path(BUNDLED) / "demo.mp4"


@cache
def demo_clip() -> Clip:
    """The bundled clip: ten seconds, both tracks."""
    return decode_media(DEMO, MediaConfig(max_pixels=112 * 112, min_pixels=None))


def demo_report(method: str = "omnidrop", seed: int = 0, **changes: object) -> Report:
    """A report of 12 layers about the bundled clip: 10 grids of 4 by 4 cells, 250 audio tokens."""
    tokens = samples.token_map(10, 4, 4, 250)
    made = samples.placed_report(tokens, seed=seed, method=method)
    source = replace(made.clip.source, path=str(DEMO), duration_s=10.0)
    clip = replace(made.clip, source=source, frames=20, duration_s=10.0, audio_s=10.0, frame_size=(112, 112))
    job = replace(made.job, media=str(DEMO), media_options=MediaConfig())
    about = {"clips": (clip,), "job": job}
    options = {"tds_layer": 6, "queries": "query"}
    return replace(made, **{**about, "method_options": options, **changes})  # type: ignore[arg-type]  # field names


def demo_explanation(**changes: object) -> Explanation:
    """Two methods and the unpruned run, with pictures."""
    clip = demo_clip()
    full = replace(demo_report("none"), answer=Answer("The garden is green.", (1, 2, 3), "eos"))
    reports = (demo_report(answer=Answer("A garden is green.", (4, 2, 3), "eos")), demo_report("seats", 1))
    made = Explanation(reports, full, film_of(clip), sound_of(clip))
    return replace(made, **changes)  # type: ignore[arg-type]  # field names
