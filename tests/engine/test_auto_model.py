"""`auto` by the length of a clip: which checkpoint answers, and what is said."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from omnidrop_cli.config import MediaConfig, ModelConfig, PruningConfig, Request
from omnidrop_cli.engine import auto_model, pipeline
from omnidrop_cli.engine.auto_model import for_clip
from omnidrop_cli.errors import FetchError
from omnidrop_cli.events import ProgressCallback
from omnidrop_cli.media.open import open_clips
from omnidrop_cli.media.source import Fetched
from omnidrop_cli.model import names
from omnidrop_cli.model.gpu_memory import GpuMemory
from omnidrop_cli.prune import budget
from tests.media.http_server import File, Server


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """11 GB: enough for four minutes on the 7B without pruning, and for forty on the 3B."""
    monkeypatch.setattr(names, "gpu_memory", lambda number: GpuMemory(free=11_000_000_000, total=12_000_000_000))


def request(keep: float | None = None, method: str = "omnidrop", media: str = "demo", **model: str) -> Request:
    return Request(media, "?", method=PruningConfig(method, keep), model=ModelConfig(**({"name": "auto"} | model)))  # type: ignore[arg-type]


def of_length(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the media have the tokens of `seconds` of video with sound."""
    monkeypatch.setattr(auto_model, "_media_tokens", lambda *_: round(min(seconds, 384) * 144 + seconds * 25))


@pytest.mark.usefixtures("free")
def test_a_long_clip_takes_the_checkpoint_that_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    of_length(600, monkeypatch)
    found, reason = for_clip(request(keep=1.0))
    assert (found.model.name, found.model.device) == ("3b", "cuda")
    assert reason is not None
    assert reason.startswith("3b answers: in the 11.0 GB that are free, 7b holds ")
    assert "without pruning" in reason
    assert for_clip(request(method="none"))[0].model.name == "3b"
    assert for_clip(request(), unpruned=True)[0].model.name == "3b"


@pytest.mark.usefixtures("free")
def test_a_clip_that_fits_pruned_keeps_the_larger_one(monkeypatch: pytest.MonkeyPatch) -> None:
    of_length(600, monkeypatch)
    assert for_clip(request()) == (request(), None)
    assert names.AUTO_KEEP == budget.DEFAULT_KEEP


@pytest.mark.usefixtures("free")
def test_a_clip_that_fits_nothing_keeps_the_larger_one(monkeypatch: pytest.MonkeyPatch) -> None:
    of_length(10 * 3600, monkeypatch)
    assert for_clip(request(keep=1.0)) == (request(keep=1.0), None)


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize("asked", [request(name="7b"), request(device="cpu"), request(media="missing.mp4")])
def test_other_requests_stay(asked: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    assert for_clip(asked) == (asked, None)


def test_without_a_gpu_nothing_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "gpu_memory", lambda number: None)
    assert for_clip(request(), None) == (request(), None)  # type: ignore[arg-type]  # nothing to plan with


@pytest.mark.parametrize("name", ["speech_video", "silent_video", "wav"])
def test_tokens_are_those_of_the_prompt(name: str, clips: dict[str, Path]) -> None:
    from omnidrop_cli.media.clip import decode_media, plan_clip
    from omnidrop_cli.model.random_weights import tiny_thinker
    from omnidrop_cli.prompt.build import build

    options = names.QWEN_BOUNDS.fill(MediaConfig())
    thinker = tiny_thinker()
    prompt = build((decode_media(clips[name], options),), "?", thinker.tokenizer, thinker.spec)
    counts = prompt.token_map.counts()
    assert auto_model._media_tokens([Fetched(clips[name])], options, plan_clip) == counts.audio + counts.video
    assert auto_model._media_tokens([Fetched(clips[name].parent)], options, plan_clip) is None


@pytest.mark.usefixtures("free")
def test_an_address_is_fetched_before_the_choice_and_once(clips: dict[str, Path]) -> None:
    server, fetched, seconds = Server(), [], dict[str, float]()
    server.files["/long.mp4"] = File("video/mp4", clips["tone_video"].read_bytes())

    def plan(path: Path, options: MediaConfig) -> SimpleNamespace:
        fetched.append(path)
        return SimpleNamespace(samples=2_800 * 16_000, frames=None)  # as many tokens as ten minutes with video

    try:
        asked = request(keep=1.0, media=server.url("/long.mp4"))
        assert for_clip(asked, plan, seconds=seconds)[0].model.name == "3b"  # type: ignore[arg-type]
        assert fetched[0].read_bytes() == clips["tone_video"].read_bytes()
        bodies = server.bodies("/long.mp4")
        (clip,) = open_clips(asked, names.QWEN_BOUNDS, ProgressCallback(), seconds, lambda source, *_: source)  # type: ignore[arg-type,return-value]
        assert clip.path == fetched[0]  # type: ignore[attr-defined]
        assert server.bodies("/long.mp4") == bodies, "the copy is found again"
        assert 0 < seconds["fetch"] < 60
        with pytest.raises(FetchError):
            for_clip(request(keep=1.0, media=server.url("/404")))
    finally:
        server.close()


@pytest.mark.usefixtures("free")
def test_the_reason_is_said_and_the_checkpoint_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    of_length(600, monkeypatch)
    warnings: list[str] = []

    class Heard(ProgressCallback):
        def warn(self, message: str) -> None:
            warnings.append(message)

    loaded: list[str] = []
    monkeypatch.setattr(pipeline, "_load", lambda request, progress: (loaded.append(request.model.name), 0.0))
    pipeline.open_both(request(keep=1.0), Heard())
    assert loaded == ["3b"]
    assert warnings[0].startswith("3b answers")
