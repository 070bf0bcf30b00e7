"""The model loads while clips are decoded, and what loading says comes when they are."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from omnidrop_cli.config import ModelConfig, Request
from omnidrop_cli.engine import pipeline
from omnidrop_cli.events import ProgressCallback
from omnidrop_cli.media.source import BUNDLED
from omnidrop_cli.outputs import Clip


class Heard(ProgressCallback):
    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def stage(self, name: str, detail: str = "") -> None:
        self.events.append(("stage", name))

    def advance(self, done: float, total: float | None) -> None:
        self.events.append(("advance", done, total))

    def warn(self, message: str) -> None:
        self.events.append(("warn", message))


@pytest.mark.parametrize("media", ["demo", "elsewhere.mp4"])
def test_loading_is_shown_once_the_clips_are_decoded(media: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded, opened = threading.Event(), pipeline.open_clips

    def load(request: Request, progress: ProgressCallback) -> tuple[str, float]:
        progress.stage("read")
        progress.advance(1, 2)
        progress.warn("early")
        began.set()
        decoded.wait(60)
        shown.wait(60)
        progress.stage("convert")
        progress.advance(2, 2)
        progress.warn("late")
        return "session", 1.5

    def open_clips(*given: object) -> tuple[Clip, ...]:
        assert began.wait(60), "loading began before the clips were decoded"
        clips = opened(*given)  # type: ignore[arg-type]
        decoded.set()
        return clips

    class Shows(Heard):
        def stage(self, name: str, detail: str = "") -> None:
            super().stage(name, detail)
            if name == "load":
                threading.Timer(0.2, shown.set).start()  # `attach` follows this line

    began, shown, heard = threading.Event(), threading.Event(), Shows()
    monkeypatch.setattr(pipeline, "_load", load)
    monkeypatch.setattr(pipeline, "open_clips", open_clips)
    path = tmp_path / media
    if media != "demo":
        path.write_bytes((Path(BUNDLED) / "demo.mp4").read_bytes())
    request = Request("demo" if media == "demo" else str(path), "What is said?", model=ModelConfig("nano"))
    session, clips, seconds = pipeline.open_both(request, heard)
    assert (session, len(clips)) == ("session", 1)
    assert seconds["load"] == 1.5
    assert 0 < seconds["open"] < 60
    after = heard.events[heard.events.index(("stage", "load")) :]
    assert after == [("stage", "load"), ("warn", "early"), ("stage", "convert"), ("advance", 2, 2), ("warn", "late")]
    before = [event for event in heard.events if event not in after]
    assert ("stage", "read") not in before
    assert any("nano only knows its demo world" in str(event) for event in before) == (media != "demo")
