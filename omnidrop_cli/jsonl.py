"""Files of JSON lines that one process appends to, and JSON from files that may hold anything.

`JsonlStore` writes a row in one go and waits for the disk; `read_rows` reads without a lock. A `RowFormat` says which rows are meant.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from omnidrop_cli.errors import OmnidropError, UsageError
from omnidrop_cli.fileio import try_lock
from omnidrop_cli.report.text import escape_json

if TYPE_CHECKING:
    from typing_extensions import Self

R = TypeVar("R")


def parse_json(text: str | bytes) -> Any:
    """The value in a JSON text. Raises `ValueError`, also for a text nested too deeply to read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def field(row: Mapping[str, Any], name: str, *kinds: type) -> Any:
    """`row[name]`, which must be of one of `kinds` (a truth value is no number). Raises `ValueError`."""
    value = row.get(name)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{name!r} is {type(value).__name__}")
    return value


@dataclass(frozen=True, slots=True)
class RowFormat(Generic[R]):
    """The rows of one kind of file.

    Attributes:
        schema: The version this program writes. Rows of versions that it does not read are left alone and count for nothing.
        mark: A field that rows of this kind have in every version, and others lack.
        head: How every line begins; it tells a line cut short from the end of somebody else's file.
        parse: The row in a decoded line. Raises `ValueError` where a field is missing or of the wrong type.
        foreign: What to raise for a file whose line of that number is no such row.
        older: Earlier versions that `parse` reads too.
    """

    schema: int
    mark: str
    head: bytes
    parse: Callable[[dict[str, Any]], R]
    foreign: Callable[[Path, int], OmnidropError]
    older: tuple[int, ...] = ()

    def encode(self, row: Mapping[str, Any]) -> bytes:
        """A row as one line, harmless on a terminal, and UTF-8 whatever bytes a file name holds."""
        line = escape_json(json.dumps(row, ensure_ascii=False, allow_nan=False)).encode()
        if not line.startswith(self.head):
            raise ValueError(f"a row begins with {self.head.decode()}")
        return line + b"\n"

    def decode(self, line: bytes) -> R | OtherVersion | None:
        """The row in a line; None where there is none of this kind."""
        try:
            value = parse_json(line)
            if not isinstance(value, dict) or self.mark not in value:
                return None
            if field(value, "schema", int) not in (self.schema, *self.older):
                return OTHER_VERSION
            return self.parse(value)
        except ValueError:
            return None

    def is_torn(self, line: bytes) -> bool:
        """Whether a last line is what a crash leaves of a row: its beginning, or zeros where its length reached the disk first."""
        return not line.endswith(b"\n") and (line[: len(self.head)] == self.head[: len(line)] or not line.strip(b"\0"))


class OtherVersion(Enum):
    """A row of this kind that another version wrote."""

    OTHER_VERSION = "other version"


OTHER_VERSION = OtherVersion.OTHER_VERSION


def read_rows(path: Path, kind: RowFormat[R]) -> Iterator[tuple[int, R]]:
    """Every row of a file and the byte at which it begins. One row is in memory at a time; a torn last line is passed over.

    Raises:
        OmnidropError: The file cannot be read, or what `kind.foreign` gives for a line that is no row.
    """
    at = 0
    try:
        with open(path, "rb") as handle:
            for number, line in enumerate(handle, 1):
                row = kind.decode(line)
                if row is None and not kind.is_torn(line):
                    raise kind.foreign(path, number)
                if row is not None and row is not OTHER_VERSION:
                    yield at, row
                at += len(line)
    except OSError as error:
        raise OmnidropError(f"{path} cannot be read: {error.strerror}", "check the path and its permissions") from error


class JsonlStore(Generic[R]):
    """A file of JSON lines, open for appending and locked against other processes until it is closed."""

    def __init__(self, path: str | Path, kind: RowFormat[R], note: Callable[[R], None]) -> None:
        """Open or create `path`, hand every row in it to `note`, and take away a torn last line.

        Raises:
            UsageError: The path is a folder, or another process writes to the file.
            OmnidropError: The disk refuses; or what `kind.foreign` gives for a file of another kind, which stays as it is.
        """
        self.path, self.kind = Path(path), kind
        self.others = 0
        """Rows of other versions, which count for nothing."""
        self._descriptor = _open(self.path)
        try:
            if try_lock(self._descriptor) is False:
                raise UsageError(f"another process is writing to {path}", "wait for it, or give this run an output file of its own")
            self._end = self._repaired(note)
        except BaseException:
            os.close(self._descriptor)
            raise

    def append(self, *rows: Mapping[str, Any]) -> None:
        """Write rows and wait until all are on the disk. Raises `OmnidropError`; the file then ends with the row before."""
        block = b"".join(self.kind.encode(row) for row in rows)
        try:
            if os.write(self._descriptor, block) != len(block):
                raise OSError(errno.ENOSPC, "No space left on device")  # a short write has no errno of its own
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, self._end)
            raise OmnidropError(f"{self.path} cannot be written: {error.strerror}", "free some space, then run it again") from error
        self._end += len(block)

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _repaired(self, note: Callable[[R], None]) -> int:
        """Note every row and cut off a torn last line; the file's length afterwards."""
        end = 0
        with open(self.path, "rb") as handle:
            for number, line in enumerate(handle, 1):
                row = self.kind.decode(line)
                if row is None:
                    if not self.kind.is_torn(line):
                        raise self.kind.foreign(self.path, number)
                    os.ftruncate(self._descriptor, end)
                    os.fsync(self._descriptor)
                    return end
                if row is OTHER_VERSION:
                    self.others += 1
                else:
                    note(row)
                end += len(line)
                if not line.endswith(b"\n"):  # whole but for its end; reading on would find what is written here
                    os.write(self._descriptor, b"\n")
                    return end + 1
        return end


def backup(path: str | Path, kind: RowFormat[R]) -> Path | None:
    """Rename a file of rows to the first free PATH.bak-N, so that a run can start over; None where there is no file.

    Raises:
        OmnidropError: As `JsonlStore` does: a file in use or of another kind stays.
    """
    path = Path(path)
    if not path.exists():
        return None
    with JsonlStore(path, kind, lambda row: None):
        number = 1
        while (target := path.with_name(f"{path.name}.bak-{number}")).exists():
            number += 1
        path.rename(target)
    return target


def _open(path: Path) -> int:
    if path.is_dir():
        raise UsageError(f"{path} is a folder", f"name a file in it, such as {path / 'answers.jsonl'}")
    if path.exists() and not path.is_file():  # opening a pipe waits for its other end
        raise UsageError(f"{path} is a pipe or device", "rows are read again by the next run: give a regular file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        _sync_folder(path.parent)
    except OSError as error:
        raise OmnidropError(f"{path} cannot be opened for writing: {error.strerror}", "choose another place for the output") from error
    return descriptor


def _sync_folder(folder: Path) -> None:
    """A new file survives a power cut only once its folder is on the disk. Some file systems cannot do that."""
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        with suppress(OSError):
            os.fsync(descriptor)
        os.close(descriptor)
