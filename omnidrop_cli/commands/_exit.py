"""How the program ends: exceptions become one line, a hint and an exit code; Ctrl-C ends it at once.

Knows: every kind of failure that reaches the top, and that Python delivers Ctrl-C only between two bytecodes of the main thread.
Does not know: what the commands do.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import typer
from typer.exceptions import TyperException

from omnidrop_cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, OmnidropError, OutOfMemory
from omnidrop_cli.report.text import one_line

GRACE_S = 0.5
"""How long the main thread may take to clean up after Ctrl-C before the process ends without it."""

SMALLER = "lower --keep, --max-frames or --max-pixels, or take a smaller model (--model 3b, --quant nf4)"


def end(app: Callable[..., Any], arguments: Sequence[str]) -> NoReturn:
    """Run the Typer app and leave the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # an answer in any script must not fail on a narrow encoding
            stream.reconfigure(errors="replace")
    with _prompt_interrupts():
        code = _run(app, arguments)
    _leave(code)


def _run(app: Callable[..., Any], arguments: Sequence[str]) -> int:
    try:
        result = app(list(arguments), prog_name="omnidrop", standalone_mode=False)
        code = result if isinstance(result, int) else EXIT_OK
    except SystemExit as leaving:  # Typer's own answer to a closed pipe
        return leaving.code if isinstance(leaving.code, int) else EXIT_FAILED
    except BaseException as error:
        if _wants_traceback(arguments):
            traceback.print_exception(error)
        return _tell(error)
    if code == EXIT_INTERRUPTED:
        _say("interrupted")
    return code


def _tell(error: BaseException) -> int:
    """Print what went wrong; the exit code."""
    if isinstance(error, KeyboardInterrupt):
        _say("interrupted")
        return EXIT_INTERRUPTED
    if isinstance(error, TyperException):
        return _tell_usage(error)
    known = _explained(error)
    _say(f"error: {one_line(known.message)}", known.hint)
    return known.exit_code


def _tell_usage(error: TyperException) -> int:
    message = error.format_message()
    context = getattr(error, "ctx", None)
    if message.strip():  # empty where Typer printed the help already
        _say(f"error: {one_line(message)}", f"{context.command_path} --help" if context is not None else None)
    return error.exit_code or EXIT_USAGE


def _explained(error: BaseException) -> OmnidropError:
    if isinstance(error, OmnidropError):
        return error
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return OutOfMemory("the GPU ran out of memory", SMALLER)
    if isinstance(error, MemoryError):
        return OutOfMemory("this machine ran out of memory", SMALLER)
    if isinstance(error, typer.Abort):
        return OmnidropError("stopped: the input ended")
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return OmnidropError(f"{where}{(error.strerror or str(error)).lower()}", "--debug shows where")
    return OmnidropError(
        f"this is a bug in omnidrop: {type(error).__name__}: {error}", "--debug shows where; please report it with omnidrop doctor"
    )


def _say(line: str, hint: str | None = None) -> None:
    with suppress(OSError, ValueError, AttributeError):  # stderr may be closed
        sys.stderr.write(f"{line}\n")
        if hint:
            sys.stderr.write(f"hint: {one_line(hint)}\n")
        sys.stderr.flush()


def _wants_traceback(arguments: Sequence[str]) -> bool:
    """Read from the words themselves: an error may come before they are parsed."""
    words = list(arguments)
    words = words[: words.index("--")] if "--" in words else words
    return "--debug" in words or os.environ.get("OMNIDROP_DEBUG", "").lower() not in ("", "0", "false", "no", "off")


def _leave(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    # A thread that still imports torch or loads weights crashes an interpreter that takes itself apart around it.
    if code == EXIT_INTERRUPTED or any(thread.daemon for thread in threading.enumerate()):
        os._exit(code)
    sys.exit(code)


@contextmanager
def _prompt_interrupts() -> Iterator[None]:
    """Ctrl-C ends the process within `GRACE_S`, also while the main thread sits in torch or FFmpeg.

    C code that runs for seconds delays KeyboardInterrupt; a thread hears of the signal at once and waits for the main thread no
    longer than the grace. A command that installs its own SIGINT handler (to finish a row) is left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(receiver, done), daemon=True)
    watcher.start()
    previous = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        done.set()
        signal.set_wakeup_fd(previous)
        sender.close()
        watcher.join()
        receiver.close()


def _watch(receiver: socket.socket, done: threading.Event) -> None:
    while heard := receiver.recv(64):
        if signal.SIGINT in heard and signal.getsignal(signal.SIGINT) is signal.default_int_handler and not done.wait(GRACE_S):
            if sys.stderr is not None and sys.stderr.isatty():
                _say("\x1b[?25h\r")  # a progress bar that is cut off leaves the cursor hidden
            _say("interrupted")
            os._exit(EXIT_INTERRUPTED)
