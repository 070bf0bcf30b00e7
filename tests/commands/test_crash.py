"""A clip that crashes its decoder is one clear error of every command that opens clips, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from omnidrop_cli.config import ModelConfig, Request
from omnidrop_cli.engine import child_process, pipeline
from omnidrop_cli.engine.encoded_prompt import PromptSource
from omnidrop_cli.errors import MediaError
from omnidrop_cli.media.clip import plan_clip
from omnidrop_cli.media.source import BUNDLED
from tests.commands.running import environment, program

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

CRASHING = Path(__file__).parents[1] / "batch" / "crashing"
DEMO = BUNDLED / "demo.mp4"

COMMANDS = {
    "ask": ("ask", "CLIP", "what?"),
    "compare": ("ask", "CLIP", "what?", "--compare", "--json"),
    "two clips": ("ask", str(DEMO), "CLIP", "-q", "what?"),
    "chat": ("chat", "CLIP"),
    "explain": ("explain", "CLIP", "what?", "-o", "page.html"),
    "inspect": ("inspect", "CLIP"),
    "bench media": ("bench", "media", "CLIP"),
}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return Path(shutil.copy(DEMO, tmp_path / "segfault.mp4"))


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """The environment in which clips crash; temporary files have a folder of their own."""
    (tmp_path / "tmp").mkdir()
    inherited = environment(TMPDIR=str(tmp_path / "tmp"))
    return {**inherited, "PYTHONPATH": os.pathsep.join([str(CRASHING), inherited["PYTHONPATH"]])}


def processes_in(variables: dict[str, str]) -> list[str]:
    """What runs in that environment."""
    mark = f"TMPDIR={variables['TMPDIR']}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found


def wait_until(reached: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS.keys())
def test_it_is_one_clear_error(words: tuple[str, ...], clip: Path, variables: dict[str, str], tmp_path: Path) -> None:
    command = program(*(str(clip) if word == "CLIP" else word for word in words))
    done = subprocess.run(command, input="what?\n", capture_output=True, text=True, timeout=120, env=variables, cwd=tmp_path, check=False)
    assert done.returncode == 1
    *before, error, hint = done.stderr.splitlines()
    assert error == f"error: {clip} crashes the decoder (killed by SIGSEGV)"
    assert hint == "hint: the file is damaged or unusual; converting it with ffmpeg may help"
    assert all(line.startswith("warning: no NVIDIA GPU") for line in before)
    assert (json.loads(done.stdout)["error"]["type"] if "--json" in words else done.stdout) == ("MediaError" if "--json" in words else "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["segfault.mp4", "tmp"]
    assert not [path for path in (tmp_path / "tmp").iterdir() if not path.name.startswith("torch")]
    wait_until(lambda: not processes_in(variables))


def test_on_stdin(variables: dict[str, str]) -> None:
    command = program("ask", "-", "what?")
    done = subprocess.run(command, input="segfault", capture_output=True, text=True, timeout=120, env=variables, check=False)
    assert done.returncode == 1
    assert "error: the clip on stdin crashes the decoder (killed by SIGSEGV)" in done.stderr
    assert not [*(Path(os.environ["XDG_CACHE_HOME"]) / "omnidrop").rglob("stdin/*")]


@pytest.mark.parametrize("words", [("ask", "what?"), ("inspect",)], ids=["ask", "inspect"])
def test_an_interrupt_ends_a_decoder_that_hangs(words: tuple[str, ...], variables: dict[str, str], tmp_path: Path) -> None:
    clip = shutil.copy(DEMO, tmp_path / "hang.mp4")
    command = program(words[0], str(clip), *words[1:])
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=variables, start_new_session=True) as process:
        wait_until(lambda: any("spawn_main" in line for line in processes_in(variables)))
        time.sleep(1.0)
        pressed = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert time.monotonic() - pressed < 5  # at once, on a busy machine
    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted"
    wait_until(lambda: not processes_in(variables))


@pytest.fixture
def decoder() -> None:
    """A child that starts in this test's environment."""
    pipeline._decoder().pause()


@pytest.mark.usefixtures("decoder")
def test_what_a_session_of_a_command_opens_later_is_decoded_apart_too(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`evaluate` opens clip after clip, and a clip is decoded again with less detail where memory is short."""
    monkeypatch.setenv("PYTHONPATH", str(CRASHING), prepend=os.pathsep)
    session = pipeline.load(ModelConfig("nano", device="cpu"))
    with pytest.raises(MediaError, match="crashes the decoder"):
        session.encode(PromptSource(Request(str(clip), "?")))
    assert session.encode(PromptSource(Request(str(DEMO), "?"))).clips[0].has_video
    pipeline._decoder().pause()


@pytest.mark.usefixtures("decoder")
def test_without_another_process_clips_are_opened_in_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(child_process, "start", refused)
    request = Request("demo", "?", model=ModelConfig("nano", device="cpu"))
    _, (clip,), seconds = pipeline.open_both(request)
    assert clip.has_video
    assert seconds["decode"] > 0
    plan = pipeline.plan(DEMO, request.media_options)
    assert plan.samples == plan_clip(DEMO, request.media_options).samples


@pytest.mark.usefixtures("decoder")
def test_both_processes_find_the_same(clips: dict[str, Path]) -> None:
    options = Request("", "?").media_options
    here, there = plan_clip(clips["speech_video"], options), pipeline.plan(clips["speech_video"], options)
    assert (here.source, here.samples, here.warnings) == (there.source, there.samples, there.warnings)
    assert here.frames is not None
    assert there.frames is not None
    assert [*here.frames.packets] == [*there.frames.packets]
    assert pipeline.facts_of_file(clips["speech_video"]) == here.scan.facts
