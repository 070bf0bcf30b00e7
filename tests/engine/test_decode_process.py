"""Clips decoded in a child: the same as in this process, and a crash is one clip's own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from omnidrop_cli.config import MediaConfig, Request
from omnidrop_cli.engine import child_process, decode_process
from omnidrop_cli.engine.decode_process import Cancelled, DecodeProcess, DecoderLost
from omnidrop_cli.errors import MediaError
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.media.open import open_clip
from omnidrop_cli.outputs import Clip, FrameBounds
from tests.clips import Clips
from tests.engine import crashes

BOUNDS = FrameBounds(3136, 50176)
Work = Callable[[Request, FrameBounds, ProgressCallback], tuple[Clip, dict[str, float]]]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture
def decoder() -> Iterator[DecodeProcess]:
    process = DecodeProcess()
    process.start()
    yield process
    process.close()


def opened(decoder: DecodeProcess, media: str | Path, progress: ProgressCallback = SILENT, work: Work = crashes.decode) -> Clip:
    """The clip, from the child."""
    return decoder.run(media, work, Request(str(media), "?"), BOUNDS, progress=progress)[0]


@pytest.fixture
def segfault(clips: Clips, tmp_path: Path) -> Path:
    return Path(shutil.copy(clips["wav"], tmp_path / "segfault.wav"))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z" if Path("/proc").exists() else True


def pid(decoder: DecodeProcess) -> int:
    assert decoder._child is not None
    assert decoder._child.process.pid is not None
    return decoder._child.process.pid


def wait_until(reached: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_clip_is_the_one_this_process_would_decode(clips: Clips, decoder: DecodeProcess) -> None:
    request = Request(str(clips["speech_video"]), "?", media_options=MediaConfig(max_frames=6))
    here, seconds = open_clip(request, BOUNDS, SILENT)
    there, took = decoder.run(request.media, open_clip, request, BOUNDS, progress=SILENT)
    assert here.frames is not None
    assert there.frames is not None
    assert here.waveform is not None
    assert there.waveform is not None
    np.testing.assert_array_equal(here.frames, there.frames)
    np.testing.assert_array_equal(here.waveform, there.waveform)
    assert (here.source, here.warnings, here.fps) == (there.source, there.warnings, there.fps)
    assert took.keys() == seconds.keys()
    there.frames[0] = 0  # and it can be written to, as any array


def test_relative_names_are_those_of_this_process(
    clips: Clips, decoder: DecodeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        shutil.copy(clips["wav"], tmp_path / name / f"{name}.wav")
        monkeypatch.chdir(tmp_path / name)
        assert opened(decoder, f"{name}.wav").has_audio


def test_errors_and_progress_pass_and_the_child_lives_on(clips: Clips, decoder: DecodeProcess) -> None:
    class Listening(ProgressCallback):
        stages: list[str] = []  # noqa: RUF012

        def stage(self, name: str, detail: str = "") -> None:
            self.stages.append(name)

    first = pid(decoder)
    with pytest.raises(MediaError, match="no such file") as caught:
        opened(decoder, "gone.mp4", Listening())
    assert "check the path" in (caught.value.hint or "")
    assert opened(decoder, clips["wav"], Listening()).has_audio
    assert pid(decoder) == first
    assert Listening.stages == ["fetch", "decode"] * 2 or Listening.stages == ["fetch", "fetch", "decode"]


def test_a_segmentation_fault_is_that_clips_error(clips: Clips, decoder: DecodeProcess, segfault: Path) -> None:
    assert opened(decoder, clips["wav"]).has_audio
    with pytest.raises(MediaError, match=r"segfault\.wav crashes the decoder \(killed by SIGSEGV\)"):
        opened(decoder, segfault)
    assert opened(decoder, clips["wav"]).has_audio


def test_a_killed_child_is_distinguished(clips: Clips, decoder: DecodeProcess, tmp_path: Path) -> None:
    shutil.copy(clips["wav"], tmp_path / "oom.wav")
    with pytest.raises(MediaError, match=r"SIGKILL \(out of memory\?\)"):
        opened(decoder, tmp_path / "oom.wav")


def test_a_clip_is_blamed_only_where_it_was_alone(clips: Clips) -> None:
    decoder = DecodeProcess()
    for _ in range(3):  # the second and the third clip meet a damaged process, and pass in a new one
        assert opened(decoder, clips["wav"], work=crashes.poisoned).has_audio
    decoder.close()


def test_a_clip_that_was_alone_is_not_tried_again(decoder: DecodeProcess, segfault: Path, starts: list[int]) -> None:
    with pytest.raises(MediaError, match="SIGSEGV"):
        opened(decoder, segfault)
    assert len(starts) == 0


def test_a_child_that_died_while_it_waited_is_no_clips_fault(clips: Clips, decoder: DecodeProcess) -> None:
    child = decoder._child
    assert child is not None
    assert child._pipe.poll(60)  # it is ready
    child.process.kill()
    child.process.join()
    assert opened(decoder, clips["wav"]).has_audio


def test_a_decoder_that_hangs_is_killed(clips: Clips, tmp_path: Path) -> None:
    shutil.copy(clips["wav"], tmp_path / "hang.wav")
    decoder = DecodeProcess(stall_s=1.0)
    decoder.start()
    first = pid(decoder)
    with pytest.raises(MediaError, match="hangs"):
        opened(decoder, tmp_path / "hang.wav")
    assert opened(decoder, clips["wav"]).has_audio
    assert not alive(first)
    decoder.close()


def test_no_process_is_no_clips_fault(clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = DecodeProcess()
    monkeypatch.setattr(decode_process, "_serve", sys.exit)  # the child ends before it is ready
    for _ in range(2):
        with pytest.raises(DecoderLost, match="exit code 1"):
            opened(decoder, clips["wav"])
    decoder.close()


def test_a_system_that_starts_no_process(clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(child_process, "start", refused)
    decoder = DecodeProcess()
    decoder.start()
    with pytest.raises(DecoderLost, match="temporarily unavailable"):
        opened(decoder, clips["wav"])


def test_a_mistake_in_the_child_shows_where_it_was(decoder: DecodeProcess) -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        decoder.run("a.mp4", crashes.faulty, "a.mp4")
    assert caught.value.raised_in.startswith("json")  # type: ignore[attr-defined]
    assert "crashes.py" in str(caught.value.__cause__)


def test_an_interrupted_wait_leaves_no_answer_for_the_next_clip(clips: Clips, decoder: DecodeProcess) -> None:
    class Impatient(ProgressCallback):
        def stage(self, name: str, detail: str = "") -> None:
            raise KeyboardInterrupt

    first = pid(decoder)
    with pytest.raises(KeyboardInterrupt):
        opened(decoder, clips["speech_video"], Impatient())
    assert not alive(first)
    assert not opened(decoder, clips["wav"]).has_video


def test_a_pause_ends_the_child_until_the_next_clip(clips: Clips, decoder: DecodeProcess) -> None:
    first = pid(decoder)
    decoder.pause()
    assert not alive(first)
    assert opened(decoder, clips["wav"]).has_audio
    assert pid(decoder) != first


@pytest.mark.parametrize("moment_s", [0.05, 0.5], ids=["while the child starts", "at work"])
@pytest.mark.parametrize("how", ["cancel", "close"])
def test_giving_up_ends_the_wait_and_the_child(how: str, moment_s: float, clips: Clips, tmp_path: Path) -> None:
    shutil.copy(clips["wav"], tmp_path / "hang.wav")
    decoder = DecodeProcess()
    decoder.start()
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            opened(decoder, tmp_path / "hang.wav")
        except Cancelled as error:
            raised.append(error)

    first = pid(decoder)
    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(decoder._turn.locked)  # on a busy machine the thread may not have begun yet
    time.sleep(moment_s)
    getattr(decoder, how)()
    thread.join(60)
    assert len(raised) == 1
    assert not alive(first)
    if how == "cancel":
        assert opened(decoder, clips["wav"]).has_audio
    decoder.close()


class Interrupted:
    """A lock that runs `event` just before or just after it is taken, where another thread could run."""

    def __init__(self, event: Callable[[], object], when: str) -> None:
        self._lock, self._event, self._when = threading.Lock(), event, when

    def __enter__(self) -> None:
        if self._when == "before":
            self._event()
        self._lock.acquire()
        if self._when == "after":
            self._event()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def locked(self) -> bool:
        return self._lock.locked()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_clip_is_given_up_from_the_moment_it_is_asked_for(decoder: DecodeProcess, when: str) -> None:
    decoder._turn = Interrupted(decoder.cancel, when)  # type: ignore[assignment]
    with pytest.raises(Cancelled):
        opened(decoder, "hang.wav")


@pytest.fixture
def starts(decoder: DecodeProcess, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Has an item for every child that starts from here on."""
    found: list[int] = []

    class Counted(decode_process._Child):
        def __init__(self) -> None:
            found.append(1)
            super().__init__()

    monkeypatch.setattr(decode_process, "_Child", Counted)
    return found


def test_a_clip_is_given_up_between_two_children(
    decoder: DecodeProcess, clips: Clips, segfault: Path, starts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert opened(decoder, clips["wav"]).has_audio
    child = decoder._child
    assert child is not None
    end = child.end
    monkeypatch.setattr(child, "end", lambda: (end(), decoder.cancel()))
    with pytest.raises(Cancelled):
        opened(decoder, segfault)
    assert not starts, "no second try of a clip that nobody wants"


def test_a_closed_decoder_takes_no_clip(clips: Clips, capfd: pytest.CaptureFixture[str]) -> None:
    decoder = DecodeProcess()
    decoder.start()
    decoder.close()
    assert capfd.readouterr().err == "", "the child that still started says nothing"
    decoder.start()
    with pytest.raises(Cancelled):
        opened(decoder, clips["wav"])
    assert decoder._child is None


ORPHAN = """
import contextlib, sys, os, time
from omnidrop_cli.config import Request
from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.events import SILENT
from omnidrop_cli.engine.decode_process import DecodeProcess
from omnidrop_cli.outputs import FrameBounds
from tests.engine import crashes
import threading
if __name__ == "__main__":
    def decode(media):
        decoder.run(media, crashes.decode, Request(media, "?"), FrameBounds(3136, 50176), progress=SILENT)
    decoder = DecodeProcess()
    decode(sys.argv[1])
    print(decoder._child.process.pid, flush=True)
    if sys.argv[2] == "busy":
        def wait():
            with contextlib.suppress(OmnidropError):
                decode("hang.wav")
        threading.Thread(target=wait, daemon=True).start()
        time.sleep(0.5)
    if sys.argv[3] == "kill":
        os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("at_work", ["idle", "busy"])
@pytest.mark.parametrize("end", ["kill", "forget to close"])
def test_no_orphan_is_left(at_work: str, end: str, clips: Clips, tmp_path: Path) -> None:
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(script), str(clips["wav"]), at_work, end]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.stderr == ""
    deadline = time.monotonic() + 5
    while alive(int(done.stdout)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


MASK = """
from omnidrop_cli.engine import child_process
if __name__ == "__main__":
    child = child_process.start(print, name="prints")
    with open(f"/proc/{child.process.pid}/status") as status:
        print([line.split()[1] for line in status if line.startswith("SigBlk")])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the mask is read from /proc")
def test_the_first_child_hears_no_interrupt_while_it_imports(tmp_path: Path) -> None:
    """The first start of a process also starts Python's resource tracker, which unblocks the signal."""
    script = tmp_path / "mask.py"
    script.write_text(MASK)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, env=environment, check=True)
    mask = next(line for line in done.stdout.splitlines() if line.startswith("['"))
    assert int(mask[2:-2], 16) & 1 << signal.SIGINT - 1


def test_ctrl_c_waits_until_a_child_was_sent_everything() -> None:
    sent = list[str]()

    def start() -> None:
        with child_process._interrupt_later():
            signal.raise_signal(signal.SIGINT)
            sent.append("everything")

    with pytest.raises(KeyboardInterrupt):
        start()
    assert sent
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with child_process._interrupt_later():
        sent.append("no signal, no interrupt")
