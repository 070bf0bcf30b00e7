"""One request from media and model to report: the clip is decoded while torch is imported and the checkpoint loads.

torch is imported only in the thread that loads, so a wrong file name fails in a tenth of a second.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from omnidrop_cli.engine.background import Background
from omnidrop_cli.events import SILENT, Observer
from omnidrop_cli.media.open import open_clip
from omnidrop_cli.media.source import bundled
from omnidrop_cli.model.names import resolve

if TYPE_CHECKING:
    from omnidrop_cli.config import Request
    from omnidrop_cli.engine.session import Session
    from omnidrop_cli.model.names import ModelSpec
    from omnidrop_cli.outputs import Clip, Comparison, Report


def run(request: Request, observer: Observer = SILENT) -> Report:
    """Fetch, decode and load, then answer. Raises `OmnidropError`."""
    session, clip, seconds = open_both(request, observer)
    return session.run(request, observer, clip, seconds)


def run_comparison(request: Request, observer: Observer = SILENT, rounds: int = 1) -> Comparison:
    """Fetch, decode and load, then answer unpruned and pruned; the prefills are timed in `rounds` rounds. Raises `OmnidropError`."""
    session, clip, seconds = open_both(request, observer)
    return session.run_comparison(request, observer, clip, seconds, rounds=rounds)


def open_both(request: Request, observer: Observer = SILENT) -> tuple[Session, Clip, dict[str, float]]:
    """Load the model while the clip is decoded; both, and the seconds of each stage. Raises `OmnidropError`."""
    start = time.perf_counter()
    spec = resolve(request.model)
    relay = _Relay()
    loading = Background(lambda: _load(request, relay))
    seconds: dict[str, float] = {}
    clip = open_clip(request, spec.frame_bounds, observer, seconds)
    if notice := spec.notice or _outside_nanos_world(spec, request.media):
        observer.warn(notice)
    observer.stage("load", spec.name)
    relay.target = observer
    session, seconds["load"] = loading.result()
    seconds["open"] = time.perf_counter() - start - seconds["fetch"]
    return session, clip, seconds


def _outside_nanos_world(spec: ModelSpec, media: str) -> str | None:
    """What a user must know who asks nano, by name, about a clip that it was not made for."""
    if spec.kind != "builtin" or bundled(media) is not None:
        return None
    return "nano only knows its demo world (omnidrop ask demo --list) and cannot answer about this clip; `model=3b` or 7b can"


def _load(request: Request, observer: Observer) -> tuple[Session, float]:
    start = time.perf_counter()
    from omnidrop_cli.engine.session import Session
    from omnidrop_cli.prune.methods import create

    create(request.method)  # a wrong option is found before gigabytes load
    return Session.load(request.model, observer), time.perf_counter() - start


class _Relay(Observer):
    """Passes on how far loading is, once the clip is decoded: two stages at a time would fight over one bar."""

    target: Observer = SILENT

    def stage(self, name: str, detail: str = "") -> None:
        self.target.stage(name, detail)

    def advance(self, done: float, total: float | None) -> None:
        self.target.advance(done, total)
