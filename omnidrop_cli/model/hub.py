"""The Hugging Face hub: the thinker's files of a repository, in the hub's own cache.

Input: a repository's name and revision. Output: a directory with its configuration and the shards that hold the thinker; shards of the
talker or the vocoder alone are not downloaded. Each failure of the hub becomes one `ModelError`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidrop_cli.errors import ModelError
from omnidrop_cli.model.checkpoint import INDEX, SINGLE, thinker_shards
from omnidrop_cli.model.stored_config import read_json

if TYPE_CHECKING:
    from omnidrop_cli.events import ProgressCallback

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

    A hub that cannot be reached is done without where the cache is complete. `progress.advance` counts bytes of the file in work.
    Raises `ModelError` with what to do.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    bars = _reporting(progress)
    with _explained(repository, revision, offline), _quiet():
        local = offline or not _answers(repository, revision)

        def get(name: str, at: str | None) -> Path:
            return Path(hf_hub_download(repository, name, revision=at, local_files_only=local, tqdm_class=bars))

        directory = get("config.json", revision).parent
        commit = directory.name  # the cache names a snapshot by its commit; everything else comes from the same one

        def get_if_there(name: str) -> Path | None:
            known = try_to_load_from_cache(repository, name, revision=commit)
            if known is not None:  # a path, or the remembered lack of the file in this commit
                return Path(known) if isinstance(known, str) else None
            with suppress(EntryNotFoundError):
                return get(name, commit)
            return None

        for name in SMALL_FILES:
            get_if_there(name)
        index = get_if_there(INDEX)
        for name in (SINGLE,) if index is None else thinker_shards(read_json(index) or {}, repository):
            progress.stage("load", f"{repository}: {name}")
            get(name, commit)
    return directory, commit


def _answers(repository: str, revision: str | None) -> bool:
    """Whether the hub can be reached. One request, never repeated: the library tries for half a minute before it says so itself.

    Raises the library's errors for a repository or revision that is unknown or closed.
    """
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(repository, "config.json", revision=revision))
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError):
        raise
    except (OSError, errors.HTTPError):  # type: ignore[attr-defined]  # re-exported; no network, or a failing server
        return False
    return True


@contextmanager
def _explained(repository: str, revision: str | None, offline: bool) -> Iterator[None]:
    """Turns the hub's exceptions into one line and a hint."""
    from huggingface_hub.errors import HFValidationError, HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined]  # re-exported

    try:
        yield
    except (OSError, HTTPError, HFValidationError, OfflineModeIsEnabled) as error:
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
            return f"{repository} is not in the cache, or not completely", "run once without `offline`, or `omnidrop models pull` it"
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
    """A tqdm that draws nothing and tells `progress` how many bytes have come."""
    from tqdm import tqdm

    class Reporting(tqdm):  # type: ignore[misc]  # tqdm has no types
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)  # the hub's own group name
            super().__init__(*args, **{**options, "disable": True})
            self.total, self.n = options.get("total"), options.get("initial") or 0

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            progress.advance(self.n, self.total)

    return Reporting
