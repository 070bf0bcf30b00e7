"""One request from media and model to report: the clips are decoded while torch is imported and the checkpoint loads.

torch is imported only in the thread that loads, so a wrong file name fails in a tenth of a second.

Here is decided where the commands open clips: in a child process, since a faulty codec ends the process that it runs in. Where no child
can be started, in this one.
"""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from omnidrop_cli.engine.auto_model import for_clip
from omnidrop_cli.engine.background import Background
from omnidrop_cli.engine.decode_process import DecodeProcess, DecoderLost
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.media.clip import decode_media, plan_clip
from omnidrop_cli.media.open import decode_fetched, open_clips
from omnidrop_cli.media.probe import probe
from omnidrop_cli.media.source import bundled
from omnidrop_cli.model.names import resolve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from omnidrop_cli.config import MediaConfig, ModelConfig, Request
    from omnidrop_cli.engine.session import Session
    from omnidrop_cli.media.clip import ClipPlan
    from omnidrop_cli.media.source import Fetched
    from omnidrop_cli.model.names import ModelSpec
    from omnidrop_cli.outputs import Clip, Comparison, Report, SourceFacts

T = TypeVar("T")


def run(request: Request, progress: ProgressCallback = SILENT) -> Report:
    """Fetch, decode and load, then answer. Raises `OmnidropError`."""
    session, clips, seconds = open_both(request, progress)
    return session.run(request, progress, clips, seconds)


def run_comparison(request: Request, progress: ProgressCallback = SILENT, rounds: int = 1) -> Comparison:
    """Fetch, decode and load, then answer unpruned and pruned; the prefills are timed in `rounds` rounds. Raises `OmnidropError`."""
    session, clips, seconds = open_both(request, progress, unpruned=True)
    return session.run_comparison(request, progress, clips, seconds, rounds=rounds)


def open_both(
    request: Request, progress: ProgressCallback = SILENT, *, unpruned: bool = False
) -> tuple[Session, tuple[Clip, ...], dict[str, float]]:
    """Load the model while the clips are decoded; both, and the seconds of each stage. Raises `OmnidropError`.

    `unpruned` says that the prompt is also run with everything kept, which `auto` must have memory for.
    """
    start = time.perf_counter()
    seconds: dict[str, float] = {}
    try:
        request, reason = for_clip(request, plan, progress, seconds, unpruned=unpruned)
        if reason is not None:
            progress.warn(reason)
        spec = resolve(request.model)
        relay = _Relay()
        loading = Background(lambda: _load(request, relay))
        clips = open_clips(request, spec.frame_bounds, progress, seconds, _decode)
    finally:
        _decoder().pause()
    if spec.notice is None and (notice := _outside_nanos_world(spec, request)):  # `load` gives the model's own notice
        progress.warn(notice)
    progress.stage("load", spec.name)
    relay.attach(progress)
    session, seconds["load"] = loading.result()
    seconds["open"] = time.perf_counter() - start - seconds["fetch"]
    return session, clips, seconds


def load(config: ModelConfig, progress: ProgressCallback = SILENT) -> Session:
    """A session whose clips are decoded in the child. Raises `ModelError`."""
    from omnidrop_cli.engine.session import Session

    session = Session.load(config, progress)
    session.decode = _decode
    return session


def start_decoder() -> None:
    """Start the child ahead of the first clip, so that both processes import at the same time."""
    _decoder().start()


def plan(path: Path, options: MediaConfig) -> ClipPlan:
    """`plan_clip` in the child."""
    return _in_child(path, plan_clip, path, options)


def decode_file(path: Path, options: MediaConfig) -> Clip:
    """`decode_media` in the child."""
    return _in_child(path, decode_media, path, options)


def facts_of_file(path: Path) -> SourceFacts:
    """`probe` in the child."""
    return _in_child(path, probe, path)


def _decode(source: Fetched, options: MediaConfig, progress: ProgressCallback) -> Clip:
    return _in_child(source.path, decode_fetched, source, options, progress=progress)


@cache
def _decoder() -> DecodeProcess:
    return DecodeProcess(stall_s=None)  # who waits for one clip can press Ctrl-C


def _in_child(media: Path, work: Callable[..., T], *arguments: Any, progress: ProgressCallback | None = None) -> T:
    """What `work` gives: see `DecodeProcess.run`. In this process where a container or a limit allows no other."""
    try:
        return _decoder().run(media, work, *arguments, progress=progress)
    except DecoderLost:
        return work(*arguments, *([] if progress is None else [progress]))


def _outside_nanos_world(spec: ModelSpec, request: Request) -> str | None:
    """What a user must know who asks nano, by name, about what it was not made for."""
    if spec.kind != "builtin":
        return None
    if request.more:
        return "nano was trained on questions about one clip and cannot compare several; `model=3b` or 7b can"
    if bundled(request.media) is not None:
        return None
    return "nano only knows its demo world (omnidrop ask demo --list) and cannot answer about this clip; `model=3b` or 7b can"


def _load(request: Request, progress: ProgressCallback) -> tuple[Session, float]:
    start = time.perf_counter()
    from omnidrop_cli.prune.methods import get_method

    get_method(request.method)  # a wrong option is found before gigabytes load
    return load(request.model, progress), time.perf_counter() - start


class _Relay(ProgressCallback):
    """Passes on what loading says, once the clips are decoded: two stages at a time would share one bar. Warnings are kept until then."""

    def __init__(self) -> None:
        self._target: ProgressCallback | None = None
        self._kept: list[str] = []

    def attach(self, target: ProgressCallback) -> None:
        self._target = target
        for message in self._kept:
            target.warn(message)

    def stage(self, name: str, detail: str = "") -> None:
        if self._target is not None:
            self._target.stage(name, detail)

    def advance(self, done: float, total: float | None) -> None:
        if self._target is not None:
            self._target.advance(done, total)

    def warn(self, message: str) -> None:
        if self._target is not None:
            self._target.warn(message)
        else:
            self._kept.append(message)
