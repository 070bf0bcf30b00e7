"""How the program ends: an exception becomes one line, a hint and an exit code; Ctrl-C ends the process at once.

Python delivers Ctrl-C only between two bytecodes of the main thread, so a thread of its own watches for the signal.
"""

from __future__ import annotations

import atexit
import errno
import logging
import os
import signal
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import typer
from typer.exceptions import TyperException

from omnidrop_cli.commands._console import STDOUT, dump, emit
from omnidrop_cli.commands._options import as_flags
from omnidrop_cli.commands._streams import prepare_streams
from omnidrop_cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, OmnidropError, OutOfMemory, UsageError
from omnidrop_cli.events import log_to
from omnidrop_cli.report.text import one_line

GRACE_S = 0.5
"""How long the main thread may take to clean up after Ctrl-C before the process ends without it."""

SMALLER = "ask about a part (`start_s`, `end_s`), lower `keep`, `max_frames` or `max_pixels`, or take a smaller model (`model=3b`)"


def end(app: Callable[..., Any], arguments: Sequence[str]) -> NoReturn:
    """Run the Typer app and leave the process with its exit code."""
    prepare_streams()
    if not sys.warnoptions:  # deprecations inside dependencies are for developers; -W or PYTHONWARNINGS shows them
        warnings.simplefilter("ignore")
    _set_up_logging(arguments)
    with _prompt_interrupts():
        code = _run(app, arguments)
    _leave(code)


def _set_up_logging(arguments: Sequence[str]) -> None:
    """What runs without the console logs to "omnidrop": --verbose shows its warnings on stderr, --debug its stages too."""
    debug = _has("--debug", arguments)
    if debug or _has("--verbose", arguments) or _has("-v", arguments):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(name)s: %(levelname)s: %(message)s"))
        log_to(handler, logging.INFO if debug else logging.WARNING)
    else:
        log_to(None)


def _run(app: Callable[..., Any], arguments: Sequence[str]) -> int:
    STDOUT.clear()
    try:
        _check_folder()
        result = app(list(arguments), prog_name="omnidrop", standalone_mode=False)
        code = result if isinstance(result, int) else EXIT_OK
    except BaseException as error:
        if isinstance(error, SystemExit) and not _of_a_plugin(error):  # Typer's own answer to a closed pipe
            return error.code if isinstance(error.code, int) else EXIT_FAILED
        if _has("--debug", arguments) or os.environ.get("OMNIDROP_DEBUG", "").lower() not in ("", "0", "false", "no", "off"):
            traceback.print_exception(error)
        return _report(error, as_json=_has("--json", arguments))
    if code == EXIT_INTERRUPTED:
        _say("interrupted")
    return code


def _check_folder() -> None:
    """Raise `OmnidropError` where the current folder was removed: libraries end the process when they ask for it."""
    try:
        os.getcwd()
    except OSError as error:
        raise OmnidropError(
            f"the current folder cannot be used: {(error.strerror or str(error)).lower()}", "change to another one"
        ) from error


def _has(flag: str, arguments: Sequence[str]) -> bool:
    """Whether a flag was given. Read from the words themselves: an error may come before they are parsed."""
    words = list(arguments)
    return flag in (words[: words.index("--")] if "--" in words else words)


def _report(error: BaseException, *, as_json: bool) -> int:
    """Print what went wrong, with `as_json` also as the error object on stdout; the exit code."""
    if _was_interrupted(error):
        _say("interrupted")
        return EXIT_INTERRUPTED
    if isinstance(error, TyperException):
        known: OmnidropError = _usage_error(error)
        if not known.message:  # Typer printed the help already
            return EXIT_USAGE
    else:
        known = explained(error)
    known = type(known)(as_flags(one_line(known.message)), known.hint and as_flags(one_line(known.hint)))
    if as_json and not STDOUT:
        from omnidrop_cli.report.json import error_to_dict

        with suppress(OSError, ValueError):  # stdout may be closed
            media, question = getattr(error, "asked", ([""], ""))
            emit(dump(error_to_dict(media, question, known)))
    _say(f"error: {known.message}", known.hint)
    return known.exit_code


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C led to an exception: a library may turn it into one of its own, such as an ImportError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _usage_error(error: TyperException) -> UsageError:
    context = getattr(error, "ctx", None)
    return UsageError(error.format_message().strip(), f"{context.command_path} --help" if context is not None else None)


NO_MEMORY: Mapping[type[BaseException], tuple[str, ...]] = {
    RuntimeError: ("can't allocate memory",),
    ImportError: ("failed to map segment", "cannot allocate memory", "Cannot allocate memory"),  # torch's libraries do not fit
    SystemError: ("returned NULL without setting",),  # an extension module that could not allocate
}
"""What a failed allocation says where it is no `MemoryError`."""


def explained(error: BaseException) -> OmnidropError:
    """What a user can do about an exception. Only what remains is called a bug."""
    if isinstance(error, OmnidropError):
        return error
    torch = sys.modules.get("torch")
    if isinstance(error, getattr(torch, "OutOfMemoryError", ())):  # torch may be half imported, by a thread
        return OutOfMemory("the GPU ran out of memory", SMALLER)
    if isinstance(error, MemoryError) or any(text in str(error) for text in NO_MEMORY.get(type(error), ())):
        return OutOfMemory("this machine ran out of memory", SMALLER)
    if isinstance(error, typer.Abort):
        return OmnidropError("stopped: the input ended")
    if isinstance(error, OSError):
        return _of_the_system(error)
    if os.strerror(errno.ENOSPC) in str(error):  # safetensors has exceptions of its own
        return _of_the_system(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    if isinstance(error, ImportError):
        return OmnidropError(f"a package is missing or broken: {error}", "reinstall omnidrop-cli; omnidrop doctor shows what is installed")
    if plugin := _of_a_plugin(error):
        return OmnidropError(f"{plugin} failed: {type(error).__name__}: {error}", "`debug` shows where; report it to that package")
    if culprit := _untested(error):
        return OmnidropError(f"{culprit} failed: {type(error).__name__}: {error}", "install a tested version; omnidrop doctor lists them")
    return OmnidropError(
        f"this is a bug in omnidrop: {type(error).__name__}: {error}", "`debug` shows where; please report it with omnidrop doctor"
    )


_OF_THE_SYSTEM: Mapping[int, str] = {
    errno.ENOSPC: "free some disk space",
    errno.EDQUOT: "free some disk space",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EACCES: "check its permissions",
    errno.EROFS: "choose another place: nothing can be written there",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}
"""What to do about an error of the system."""


def _of_the_system(error: OSError) -> OmnidropError:
    where = f"{error.filename}: " if error.filename else ""
    hint = _OF_THE_SYSTEM.get(error.errno or 0, "`debug` shows where")
    return OmnidropError(f"{where}{(error.strerror or str(error)).lower()}", hint)


def _of_a_plugin(error: BaseException) -> str | None:
    """The method of another package whose code an exception went through."""
    from omnidrop_cli.prune.methods import plugins

    frames = {frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)}
    return next((f"method '{name}' of {module}" for name, module in plugins().items() if module in frames), None)


def _untested(error: BaseException) -> str | None:
    """The package whose own code raised `error`, with its version, if that version is outside the range omnidrop was tested with."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    package = getattr(error, "raised_in", modules[-1] if modules else "").partition(".")[0]
    if package in ("omnidrop_cli", ""):
        return None
    from omnidrop_cli.commands._packages import package_states

    state = package_states().get(package)
    return f"{package} {state.version}, which omnidrop was not tested with," if state is not None and state.ok is False else None


def _say(line: str, hint: str | None = None) -> None:
    with suppress(OSError, ValueError, AttributeError):  # stderr may be closed
        for text in (line, *([f"hint: {hint}"] if hint else [])):
            sys.stderr.write(f"{_wrapped(text)}\n")
        sys.stderr.flush()


def _wrapped(line: str) -> str:
    """On a terminal, the line broken between words; elsewhere, where a program may read it, as it is."""
    if not sys.stderr.isatty():
        return line
    import textwrap

    try:
        width = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return line
    return textwrap.fill(line, max(20, width), break_long_words=False, break_on_hyphens=False)


def _leave(code: int) -> NoReturn:
    """End the process, exit handlers included, without taking the interpreter apart: that takes a second once torch is imported.

    It would also crash around a thread that still imports torch or loads weights.
    """
    _flush()
    if code != EXIT_INTERRUPTED:
        _finish_files()
        threads = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
        if not threads:
            atexit._run_exitfuncs()
        elif not any(thread.daemon for thread in threads):
            sys.exit(code)  # waits for them
    _flush()
    os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _finish_files() -> None:
    """Wait for the encoder outputs that are still being written; Ctrl-C ends the wait, since the answer is complete."""
    cache: Any = sys.modules.get("omnidrop_cli.engine.feature_cache")
    if cache is not None:
        with suppress(KeyboardInterrupt):
            cache.wait_for_all()


@contextmanager
def _prompt_interrupts() -> Iterator[None]:
    """Ctrl-C ends the process within `GRACE_S`, also while the main thread sits in torch or FFmpeg.

    C code that runs for seconds delays KeyboardInterrupt; a thread receives the signal at once and waits for the main thread no
    longer than the grace. A command that installs its own SIGINT handler (to finish a row) is left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    done = threading.Event()
    thread = threading.Thread(target=_watch, args=(receiver, done), daemon=True)
    thread.start()
    previous = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        done.set()
        signal.set_wakeup_fd(previous)
        sender.close()
        thread.join()
        receiver.close()


def _watch(receiver: socket.socket, done: threading.Event) -> None:
    while heard := receiver.recv(64):
        if signal.SIGINT in heard and signal.getsignal(signal.SIGINT) is signal.default_int_handler and not done.wait(GRACE_S):
            if sys.stderr is not None and sys.stderr.isatty():
                with suppress(OSError, ValueError):
                    sys.stderr.write("\x1b[?25h\r\n")  # a progress bar that is cut off leaves the cursor hidden
            _say("interrupted")
            os._exit(EXIT_INTERRUPTED)
