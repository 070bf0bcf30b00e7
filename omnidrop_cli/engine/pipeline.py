"""The road: from what the user asked to the report, for one job.

Knows: that the clip can decode while torch is imported and the checkpoint loads, so it starts both. Does not know: how any step
works. Imports torch only in the thread that loads, so a wrong file name fails in a tenth of a second.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from omnidrop_cli.engine.background import Background
from omnidrop_cli.events import SILENT, Observer
from omnidrop_cli.media.clip import decode
from omnidrop_cli.media.source import fetch
from omnidrop_cli.model.names import resolve

if TYPE_CHECKING:
    from omnidrop_cli.config import Request
    from omnidrop_cli.engine.session import Session
    from omnidrop_cli.model.names import FrameBounds
    from omnidrop_cli.outputs import Clip, Comparison, Report


def run(job: Request, observer: Observer = SILENT) -> Report:
    """Fetch, decode and load, then answer. Raises `OmnidropError`."""
    session, clip, seconds = open_both(job, observer)
    return session.ask(job, observer, clip, seconds)


def run_comparison(job: Request, observer: Observer = SILENT) -> Comparison:
    """Fetch, decode and load, then answer unpruned and pruned. Raises `OmnidropError`."""
    session, clip, seconds = open_both(job, observer)
    return session.compare(job, observer, clip, seconds)


def open_clip(job: Request, bounds: FrameBounds, observer: Observer, seconds: dict[str, float]) -> Clip:
    """The job's media, fetched and decoded; adds "fetch" and "decode" to `seconds`.

    `bounds` are the model's own, for what the job leaves open.
    """
    observer.stage("fetch", job.media)
    start = time.perf_counter()
    path = fetch(job.media, offline=job.model.offline, observer=observer)
    fetched = time.perf_counter()
    options = job.media_options
    options = replace(options, min_pixels=options.min_pixels or bounds.min_pixels, max_pixels=options.max_pixels or bounds.max_pixels)
    observer.stage("decode")
    clip = decode(path, options, observer)
    seconds["fetch"] = fetched - start
    seconds["decode"] = time.perf_counter() - fetched
    for warning in clip.warnings:
        observer.warn(warning)
    return clip


def open_both(job: Request, observer: Observer = SILENT) -> tuple[Session, Clip, dict[str, float]]:
    """The model and the clip, one beside the other, and what each took. Raises `OmnidropError`."""
    start = time.perf_counter()
    spec = resolve(job.model)
    relay = _Relay()
    loading = Background(lambda: _load(job, relay))
    seconds: dict[str, float] = {}
    clip = open_clip(job, spec.frame_bounds, observer, seconds)
    if spec.notice:
        observer.warn(spec.notice)
    observer.stage("load", spec.name)
    relay.target = observer
    session, seconds["load"] = loading.result()
    seconds["open"] = time.perf_counter() - start - seconds["fetch"]
    return session, clip, seconds


def _load(job: Request, observer: Observer) -> tuple[Session, float]:
    start = time.perf_counter()
    from omnidrop_cli.engine.session import Session
    from omnidrop_cli.prune.methods import create

    create(job.method)  # a wrong option is found before gigabytes load
    return Session.load(job.model, observer), time.perf_counter() - start


class _Relay(Observer):
    """Passes on how far loading is, once the clip is decoded: two stages at a time would fight over one bar."""

    target: Observer = SILENT

    def stage(self, name: str, detail: str = "") -> None:
        self.target.stage(name, detail)

    def advance(self, done: float, total: float | None) -> None:
        self.target.advance(done, total)
