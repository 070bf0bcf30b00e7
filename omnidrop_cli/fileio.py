"""Files and folders that appear whole or not at all.

`replacing` and `new_folder` give a temporary path to write to and put the result in place at the end. What a killed process left behind is
recognised by its lock, which nobody holds any more, and removed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from omnidrop_cli.errors import OmnidropError

PART = ".part-"
"""How the names of unfinished files and folders begin."""

_LOCK = ".lock"


def write_text(target: Path, text: str) -> None:
    """Replace `target` by `text` (UTF-8), as `write_bytes` does."""
    write_bytes(target, text.encode())


def write_bytes(target: Path, content: bytes) -> None:
    """Replace `target` by `content` in one step, on the disk when this returns. A pipe or device is written to.

    Raises:
        OmnidropError: The file cannot be written.
    """
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(content)
            return
        with replacing(target) as part, part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OmnidropError(f"{target} cannot be written: {reason}", "free some disk space, or choose another place") from error


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """An empty file for the block to write, in the folder of `target` and with its suffix; it takes the place of `target` at the end.

    Where the block fails, the file is removed and `target` stays as it is. A symbolic link is followed; permissions stay.
    """
    target = Path(os.path.realpath(target))
    remove_abandoned(target.parent, target)
    part = _part_name(target)
    descriptor = _hold(part)
    try:
        yield part
        os.chmod(part, target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        if sys.platform == "win32":  # an open file cannot be renamed there
            os.close(descriptor or 0)
            descriptor = None
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def temporary(target: Path) -> Iterator[Path]:
    """An empty file next to where `target` would be, removed at the end; one that a killed process left is removed first.

    Raises:
        OSError: The file cannot be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(target.parent, target)
    part = _part_name(target)
    descriptor = _hold(part)
    try:
        yield part
    finally:
        if sys.platform == "win32":  # an open file cannot be removed there
            os.close(descriptor or 0)
            descriptor = None
        part.unlink(missing_ok=True)
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """An empty folder for the block to fill; it gets the name `target` at the end, and is removed where the block fails.

    Raises:
        FileExistsError: `target` exists.
    """
    if target.exists():
        raise FileExistsError(errno.EEXIST, "it exists already", str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(target.parent, target)
    part = _part_name(target)
    with locked_folder(part):
        try:
            yield part
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    os.rename(part, target)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """A folder that is this process's own in the block, made where there is none. The lock ends with the process, however that ends.

    Raises:
        BlockingIOError: Another process has it.
    """
    descriptor = None
    while descriptor is None:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another process has just removed the folder
            descriptor = _hold(folder / _LOCK)
            if descriptor is None:
                raise BlockingIOError(errno.EWOULDBLOCK, "another process uses it", str(folder))
    try:
        yield
    finally:
        if sys.platform == "win32":  # an open file cannot be removed there
            os.close(descriptor)
        (folder / _LOCK).unlink(missing_ok=True)
        if sys.platform != "win32":
            os.close(descriptor)


def remove_folder(path: Path) -> None:
    """Delete a folder: out of sight in one step, so that a process killed half way leaves nothing that looks complete. Raises `OSError`."""
    aside = path.with_name(f"{PART}removed-{path.name}")
    if aside.exists():
        shutil.rmtree(aside)
    path.rename(aside)
    shutil.rmtree(aside)


def remove_abandoned(folder: Path, target: Path | None = None, older_than_s: float = 0.0, only: Path | None = None) -> None:
    """Remove unfinished files and folders of `folder` whose process is gone: all, those of `target`, or the one called `only`.

    What cannot be removed stays.
    """
    for part in [only] if only is not None else folder.glob(f"{PART}*" if target is None else f"{_part_prefix(target)}*"):
        with suppress(OSError):
            if time.time() - _last_change(part) < older_than_s:
                continue
            lock = part / _LOCK if part.is_dir() else part
            descriptor = _hold(lock, create=part.is_dir(), surely=True)
            if descriptor is None:
                continue
            if sys.platform == "win32":
                os.close(descriptor)
                descriptor = None
            shutil.rmtree(part) if part.is_dir() else part.unlink()
            if descriptor is not None:
                os.close(descriptor)


def _part_prefix(target: Path) -> str:
    """Unfinished files of one target, by a hash: its own name may be as long as a name can be."""
    return f"{PART}{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]}-"


def _part_name(target: Path) -> Path:
    return target.with_name(f"{_part_prefix(target)}{secrets.token_hex(4)}{target.suffix[:16]}")


def _last_change(path: Path) -> float:
    entries = [path, *path.iterdir()] if path.is_dir() else [path]
    return max(entry.stat().st_mtime for entry in entries)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# ---------------------------------------------------------------- locks


def _hold(path: Path, *, create: bool = True, surely: bool = False) -> int | None:
    """A descriptor of `path` that holds its lock; None where another process does, or, with `surely`, where the file system has no locks.

    Raises:
        OSError: The file cannot be opened.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
        locked = try_lock(descriptor)
        if locked is False or (surely and locked is None):
            os.close(descriptor)
            return None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)  # it was removed before the lock was taken


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file against other processes, until it is closed; False where one holds it, None where the file system has no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 1 << 40, os.SEEK_SET)  # a byte nobody reads: Windows' locks forbid reading
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP) else False
    return True
