"""How the program ends, in processes of their own: exit codes, one line and a hint, Ctrl-C at once, pipes that close."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omnidrop_cli.commands import _exit
from omnidrop_cli.commands._exit import explained
from omnidrop_cli.commands._options import as_flags
from omnidrop_cli.errors import EXIT_FAILED
from tests.commands.running import Done, environment, program, run

ASK = ("ask", "clip.mp4", "what?")


@pytest.mark.parametrize(
    ("fail", "words", "code"),
    [
        ("media", "error: x.mp4: no such file\nhint: check the path\n", 1),
        ("memory", "error: this machine ran out of memory\nhint: ask about a part (--start, --end), lower --keep, --max-frames", 1),
        ("disk", "error: /full/disk: no space left on device", 1),
        ("bug", "error: this is a bug in omnidrop: TypeError: boom\nhint: --debug shows where", 1),
    ],
)
def test_a_failure_is_one_line_and_a_hint(fail: str, words: str, code: int) -> None:
    done = run(*ASK, plan={"pieces": [], "fail": fail})
    assert (done.code, done.out) == (code, "")
    assert words in done.err
    assert "Traceback" not in done.err


def test_debug_shows_the_traceback() -> None:
    plan = {"pieces": [], "fail": "bug"}
    assert "Traceback (most recent call last)" in run(*ASK, "--debug", plan=plan).err
    assert "Traceback (most recent call last)" in run(*ASK, plan=plan, OMNIDROP_DEBUG="1").err
    assert "Traceback" not in run(*ASK, plan=plan, OMNIDROP_DEBUG="0").err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ask", "clip.mp4"], "error: no question was given"),
        (["ask", "clip.mp4", "what?", "--fps", "fast"], "error: --fps is 'fast'; it must be a number above 0 and at most 120"),
        (["ask", "clip.mp4", "what?", "--bogus"], "error: No such option: --bogus"),
        (["ask", "clip.mp4", "what?", "--keep", "2"], "error: --keep is 2"),
        (["nonsense"], "error: No such command 'nonsense'"),
    ],
)
def test_a_wrong_command_line_exits_2(arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert done.err.startswith(words)
    assert len(done.err.splitlines()) <= 2


def test_no_arguments_show_the_help() -> None:
    done = run()
    assert done.code == 2
    assert "Usage: omnidrop" in done.out + done.err


def test_version() -> None:
    from omnidrop_cli import __version__

    assert run("-V") == Done(0, f"omnidrop {__version__}\n", "")


def test_memory_of_the_gpu_is_explained_with_what_reduces_it() -> None:
    import torch

    known = _exit.explained(torch.OutOfMemoryError("CUDA out of memory"))
    assert known.exit_code == EXIT_FAILED
    assert known.hint
    assert all(flag in as_flags(known.hint) for flag in ("--start", "--keep", "--max-frames", "--max-pixels", "--model 3b"))


# ---------------------------------------------------------------- Ctrl-C


@pytest.mark.parametrize("stuck", ["python", "c", "swallow", "thread"])
def test_ctrl_c_ends_at_once(stuck: str) -> None:
    """Asleep in Python, inside C that hears no signal, in code that swallows KeyboardInterrupt, next to a daemon thread."""
    process = subprocess.Popen(
        program(*ASK, "--quiet", plan={"pieces": [], "stuck": stuck}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    assert process.stderr is not None
    while process.stderr.readline().strip() != "stuck":
        assert process.poll() is None
    time.sleep(0.2)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert time.monotonic() - start < 3
    assert (out, err) == ("", "interrupted\n")


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.3, 0.8, 1.5, 3.0])
def test_ctrl_c_ends_at_once_on_the_real_pipeline(delay_s: float, tmp_path: Path, clips: dict[str, Path]) -> None:
    """While the commands, av and torch are imported, while random weights are made: whenever it comes once Python itself is up.

    Before that Python ends with a message of its own (and exit code 1 while it imports `site`).
    """
    code = "from omnidrop_cli.__main__ import main; print('up', flush=True); main()"  # as the installed program does
    words = ("ask", str(clips["speech_video"]), "what?", "--model", "random:3b@2layers", "--quiet")
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    time.sleep(delay_s)
    if process.poll() is None:
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (130, "interrupted\n")
        assert time.monotonic() - start < 5


@pytest.mark.parametrize(("kind", "shown"), [("KeyboardInterrupt", False), ("ValueError", True)])
def test_ctrl_c_inside_a_callback_shows_no_traceback(kind: str, shown: bool) -> None:
    code = (
        "import weakref\nfrom omnidrop_cli import __main__, cli\nclass X: pass\n"
        f"def interrupted(_):\n    raise {kind}\n"
        "def program():\n    x = X()\n    watched = weakref.ref(x, interrupted)\n    del x\n"
        "cli.main = program\n__main__.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment(), check=False)
    assert (kind in done.stderr) is shown


def test_an_error_that_ctrl_c_led_to_is_no_error() -> None:
    def interrupted() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ImportError("numpy failed to import") from error

    assert _exit._run(lambda *_, **__: interrupted(), []) == 130


# ---------------------------------------------------------------- pipes and terminals


def test_a_closed_pipe_is_no_drama() -> None:
    command = program(*ASK, "--quiet", plan={"pieces": ["word "] * 2000, "pause_s": 0.001})
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    assert process.stdout is not None
    process.stdout.read(4)
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read().decode()
    process.wait(20)
    assert err == ""


def test_the_answer_streams_through_a_pipe() -> None:
    command = program(*ASK, "--quiet", plan={"pieces": ["first ", "second"], "pause_s": 4.0})
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment())
    assert process.stdout is not None
    assert os.read(process.stdout.fileno(), 100) == b"first "
    process.kill()
    process.communicate()


def on_a_terminal(*arguments: str, plan: dict[str, object], **variables: str) -> list[tuple[float, str]]:
    """What appears on a terminal that is both stdout and stderr, piece by piece with the seconds since the start."""
    import pty

    master, slave = pty.openpty()
    process = subprocess.Popen(
        program(*arguments, plan=plan), stdout=slave, stderr=slave, stdin=slave, env=environment(TERM="xterm", **variables)
    )
    os.close(slave)
    seen: list[tuple[float, str]] = []
    start = time.monotonic()
    while time.monotonic() - start < 30:
        if select.select([master], [], [], 0.1)[0]:
            try:
                data = os.read(master, 4096)
            except OSError:  # Linux says so when the last writer is gone
                break
            if not data:
                break
            seen.append((time.monotonic() - start, data.decode(errors="replace")))
    process.wait(10)
    os.close(master)
    return seen


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_the_answer_streams_on_a_terminal() -> None:
    seen = on_a_terminal(*ASK, "--no-table", plan={"pieces": ["alpha ", "beta ", "gamma"], "pause_s": 0.5})
    when = {word: next(time for time, text in seen if word in text) for word in ("alpha", "beta", "gamma")}
    assert when["beta"] - when["alpha"] > 0.3
    assert when["gamma"] - when["beta"] > 0.3
    whole = "".join(text for _, text in seen)
    assert "alpha beta gamma\r\n" in whole
    assert whole.count("\x1b[?25l") == whole.count("\x1b[?25h")  # the bar gave the cursor back


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
@pytest.mark.parametrize(("flags", "variables"), [(["--no-color"], {}), ([], {"NO_COLOR": "1"})])
def test_no_colours_when_not_wanted(flags: list[str], variables: dict[str, str]) -> None:
    whole = "".join(text for _, text in on_a_terminal(*ASK, "--table", *flags, plan={"pieces": ["x"]}, **variables))
    table = whole[whole.index("layer") :]
    assert "\x1b[3" not in table


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        SystemError("<class 'type'> returned NULL without setting an exception"),
    ],
)
def test_too_little_memory_is_no_bug_of_ours(error: BaseException) -> None:
    """Importing torch under a small memory limit fails in several ways."""
    assert "ran out of memory" in explained(error).message


def test_a_full_disk_is_no_bug_whatever_library_meets_it() -> None:
    known = explained(Exception("Error while serializing: I/O error: No space left on device (os error 28)"))
    assert (known.message, known.hint) == ("no space left on device", "free some disk space")


def test_an_error_while_torch_is_half_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", type(sys)("torch"))
    assert explained(OSError(36, "File name too long", "x")).hint == "give a shorter name"


@pytest.mark.parametrize(("options", "shown"), [((), False), (("-W", "default"), True)])
def test_warnings_of_dependencies_do_not_reach_the_terminal(options: tuple[str, ...], shown: bool) -> None:
    code = (
        "import warnings\nfrom omnidrop_cli.commands._exit import end\n"
        "end(lambda *_, **__: warnings.warn('an argument is deprecated', FutureWarning, stacklevel=1), [])"
    )
    done = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, timeout=60, env=environment())
    assert ("deprecated" in done.stderr) is shown, done.stderr


@pytest.mark.parametrize(
    ("thread", "handled"), [("", True), ("threading.Thread(target=time.sleep, args=(0.2,)).start()", True), ("daemon()", False)]
)
def test_leaving_runs_exit_handlers_and_flushes(thread: str, handled: bool, tmp_path: Path) -> None:
    """Not where a daemon thread may be inside torch: the process ends at once then."""
    code = (
        "import atexit, sys, tempfile, threading, time; from omnidrop_cli.commands import _exit\n"
        "daemon = lambda: threading.Thread(target=time.sleep, args=(30,), daemon=True).start()\n"
        "folder = tempfile.TemporaryDirectory(dir=sys.argv[1])\n"
        "atexit.register(lambda: sys.stdout.write(' handled'))\n"
        f"sys.stdout.write('answer')\n{thread}\n_exit._leave(3)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, "answer handled" if handled else "answer", "")
    assert not handled or not [*tmp_path.iterdir()]
