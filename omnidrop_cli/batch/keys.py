"""What makes two answers the same answer: the content of the clip, the question, the model, the method and every setting.

Takes a request and a clip's path or address; gives the clip's content id (without reading all of a long file) and the key of the row. The
device, the attention kernel, how tokens are decoded and where the file lies are not in the key, so a run can move to another machine and
go on.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidrop_cli import __version__
from omnidrop_cli.media.source import bundled, irregular, is_url
from omnidrop_cli.media.subtitles import subtitle_file
from omnidrop_cli.report.text import without_credentials

if TYPE_CHECKING:
    from omnidrop_cli.config import Request
    from omnidrop_cli.model.names import ModelSpec

KEY_VERSION = 1
"""Part of every key: raised when answers of an older version should not count as done."""

LATER = frozenset({"choices", "schema"})
"""Options that are younger than the first keys: left out where they are not set, so that earlier answers still count."""

DECODING = frozenset({"prompt_lookup"})
"""Options of generation that do not shape the answer."""

BLOCK = 1 << 16
BLOCKS = 16
"""A file over `BLOCK * BLOCKS` bytes is recognised by its size and this many evenly spaced blocks: a megabyte read, not the clip."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Path, size and time of a file, and its content id. Same path, size and time: same content, as rsync and make assume."""

    path: str
    size: int
    mtime_ns: int
    content: str

    @property
    def file(self) -> tuple[str, int, int]:
        return (self.path, self.size, self.mtime_ns)


def stamp(media: str, known: dict[tuple[str, int, int], str]) -> Stamp:
    """The stamp of a path or URL. `known` maps `Stamp.file` to content ids of earlier runs, which saves reading the file.

    A URL stands for itself, without its password. A file that cannot be read has a content id of its own, so it is tried again once it can
    be; so has what is no regular file, since opening a pipe waits for its other end.
    """
    if is_url(media):
        shown = without_credentials(media)
        return Stamp(shown, 0, 0, f"url:{shown}")
    if irregular(media) is not None:
        return Stamp(media, 0, 0, f"irregular:{media}")
    path = bundled(media) or media
    try:
        facts = os.stat(path)
        content = known.get((media, facts.st_size, facts.st_mtime_ns)) or content_id(path)
    except (OSError, ValueError) as error:  # a NUL in a name is a ValueError
        return Stamp(media, 0, 0, f"unreadable:{getattr(error, 'errno', None)}:{media}")
    return Stamp(media, facts.st_size, facts.st_mtime_ns, content)


def content_id(path: str | Path) -> str:
    """32 hex digits from a file's size and content, sampled where it is long. Raises `OSError`."""
    with open(path, "rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        digest = hashlib.sha256(f"{size}:".encode())
        if size <= BLOCK * BLOCKS:
            digest.update(handle.read())
        else:
            for index in range(BLOCKS):
                handle.seek((size - BLOCK) * index // (BLOCKS - 1))
                digest.update(handle.read(BLOCK))
    return digest.hexdigest()[:32]


def model_id(spec: ModelSpec) -> str:
    """Which weights answer: the built-in model changes with this package, everything else is named by its source."""
    return f"{spec.name}@{__version__}" if spec.kind == "builtin" else f"{spec.kind}:{spec.name if spec.kind == 'random' else spec.source}"


def _media(job: Request) -> dict[str, Any]:
    """The options of the clip, by the names of the first keys, and the content of the subtitles that are a file of their own."""
    found = {"same_within" if name == "dedup_threshold" else name: value for name, value in asdict(job.media_options).items()}
    if found["subtitles"] is None:
        del found["subtitles"]
    elif (file := subtitle_file(bundled(job.media) or Path(job.media), found["subtitles"])) is not None:
        with suppress(OSError):  # the answer will be an error
            found["subtitles"] = content_id(file)
    return found


def key(job: Request, content: str, model: str, name: str | None = None) -> str:
    """32 hex digits of everything that shapes the answer, and of the user's own `name` for the question."""
    head = [] if job.model.quant_head == "none" else [job.model.quant_head]  # the option is younger than the first keys
    parts = {
        "version": KEY_VERSION,
        "content": content,
        "id": name,
        "question": job.question,
        "system": job.system,
        "media": _media(job),
        "model": [model, job.model.revision, job.model.quant, job.model.dtype, *head],
        "method": [job.method.name, job.method.keep, job.method.preset, dict(job.method.options), job.method.seed],
        "generation": {
            name: value for name, value in asdict(job.generation).items() if name not in DECODING and (value or name not in LATER)
        },
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
