"""The Hugging Face hub: the thinker's files of a repository, in the hub's own cache.

Input: a repository's name and revision. Output: a directory with its configuration and the shards that hold the thinker; shards of the
talker or the vocoder alone are not downloaded. Each failure of the hub becomes one `ModelError`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidrop_cli.errors import ModelError
from omnidrop_cli.model.checkpoint import INDEX, SINGLE, thinker_shards
from omnidrop_cli.model.stored_config import read_json

if TYPE_CHECKING:
    from omnidrop_cli.events import ProgressCallback

CONFIG = "config.json"
SMALL_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "preprocessor_config.json",
)
"""Files wanted where the repository has them. The tokenizer comes as one file or as vocabulary and merges."""

_UNREACHABLE = "check the connection (HF_ENDPOINT names a mirror), or use `model=nano` or a directory"


def pull(repository: str, revision: str | None, offline: bool, progress: ProgressCallback) -> tuple[Path, str]:
    """The directory of a repository's thinker in the hub cache, and the commit it is of. Downloads what is not there.

    A hub that cannot be reached is done without where the cache is complete. `progress.advance` counts bytes of all files in work.
    Raises `ModelError` with what to do.
    """
    from huggingface_hub import errors, snapshot_download

    bars = _reporting(progress)
    with _explained(repository, revision, offline), _quiet():
        local = offline or not _answers(repository, revision)

        def snapshot(at: str | None, *names: str) -> Path:
            return Path(snapshot_download(repository, revision=at, allow_patterns=[*names], local_files_only=local, tqdm_class=bars))

        directory = snapshot(revision, CONFIG, INDEX, *SMALL_FILES)
        commit = directory.name  # the cache names a snapshot by its commit; the weights come from the same one
        index = read_json(directory / INDEX)
        weights = (SINGLE,) if index is None else thinker_shards(index, repository)
        progress.stage("load", repository)
        snapshot(commit, *weights)
        for name in (CONFIG, *weights):
            if not (directory / name).exists():
                raise errors.LocalEntryNotFoundError(name) if local else errors.EntryNotFoundError(f"no {name}")
    return directory, commit


def _answers(repository: str, revision: str | None) -> bool:
    """Whether the hub can be reached. One request, never repeated: the library tries for half a minute before it says so itself.

    Raises the library's errors for a repository or revision that is unknown or closed.
    """
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(repository, CONFIG, revision=revision))
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError):
        raise
    except (OSError, errors.HTTPError):  # type: ignore[attr-defined]  # re-exported; no network, or a failing server
        return False
    return True


@contextmanager
def _explained(repository: str, revision: str | None, offline: bool) -> Iterator[None]:
    """Turns the hub's exceptions into one line and a hint."""
    from huggingface_hub import errors

    http: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]  # re-exported
    try:
        yield
    except (OSError, http, errors.EntryNotFoundError, errors.HFValidationError, errors.OfflineModeIsEnabled) as error:
        message, hint = _explain(error, repository, revision, offline)
        raise ModelError(message, hint) from error


def _explain(error: Exception, repository: str, revision: str | None, offline: bool) -> tuple[str, str]:
    from huggingface_hub import errors

    match error:  # a gated repository is a missing one to the library, and a missing file a failed request: special cases first
        case errors.GatedRepoError():
            page = f"https://huggingface.co/{repository}"
            return f"{repository} is gated", f"accept its terms on {page}, then run `hf auth login`"
        case errors.RevisionNotFoundError():
            return f"{repository} has no revision {revision}", "give a branch, tag or commit of the repository"
        case errors.RepositoryNotFoundError():
            return f"the hub has no repository {repository}, or it is private", "check the name; `hf auth login` opens private ones"
        case errors.LocalEntryNotFoundError() if offline:
            return f"{repository} is not in the cache, or not completely", f"while online, `omnidrop models pull {repository}` fetches it"
        case errors.LocalEntryNotFoundError():
            return f"{repository} is not in the cache and the hub cannot be reached", _UNREACHABLE
        case errors.EntryNotFoundError():
            return f"{repository} is no model in safetensors format: {_first_line(error)}", "give a Qwen2.5-Omni repository"
        case errors.HFValidationError():
            return f"{repository!r} is no repository name", "hub repositories are written owner/name"
        case errors.HfHubHTTPError() | errors.OfflineModeIsEnabled():
            return f"{repository} cannot be downloaded: {_first_line(error)}", _UNREACHABLE
        case OSError():
            return f"{repository} cannot be stored: {error}", "free disk space, or set HF_HOME to another disk"
        case _:
            return f"{repository} cannot be downloaded: {_first_line(error)}", _UNREACHABLE


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no advice from the hub's library; as before afterwards."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _reporting(progress: ProgressCallback) -> Any:
    """A progress bar for the hub's library that draws nothing and reports how many bytes have come."""
    from huggingface_hub.utils.tqdm import tqdm

    class Reporting(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            self._counts = options.get("name") == "huggingface_hub.snapshot_download"  # others count files, or bytes a second time
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]
            self.total, self.n = options.get("total"), options.get("initial") or 0

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if self._counts:
                progress.advance(self.n, self.total)

    return Reporting
