"""Downloads a published benchmark from the hub and unpacks its archives. Only on request: these sets are tens of gigabytes."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

from omnidrop_cli import paths
from omnidrop_cli.errors import DatasetError, UsageError
from omnidrop_cli.evaluate.items import Benchmark
from omnidrop_cli.events import SILENT, ProgressCallback


def directory(benchmark: Benchmark) -> Path:
    """Where a fetched benchmark lies, or will."""
    return paths.benchmarks() / benchmark.name


def fetch(benchmark: Benchmark, progress: ProgressCallback = SILENT) -> Path:
    """Download a benchmark and unpack its archives; what is there already is not done again. Raises `DatasetError`, `UsageError`."""
    if benchmark.hub is None:
        raise UsageError(f"{benchmark.name} is not published on the hub", "leave out `fetch`")
    target = directory(benchmark)
    by_hand = f"download it by hand: hf download --repo-type dataset {benchmark.hub.repo} --local-dir DIR, then give `data=DIR`"
    progress.stage("fetch", benchmark.hub.repo)
    try:
        from huggingface_hub import snapshot_download

        snapshot_download(benchmark.hub.repo, repo_type="dataset", local_dir=target, allow_patterns=list(benchmark.hub.patterns))
    except Exception as problem:  # the client raises its own, httpx' and OS errors; to the user all mean the same
        reason = next(iter(str(problem).splitlines()), type(problem).__name__)
        raise DatasetError(f"{benchmark.hub.repo} cannot be fetched: {reason}", by_hand) from problem
    for archive in sorted([*target.rglob("*.zip"), *target.rglob("*.tar")]):
        unpack(archive, target, progress)
    return target


def unpack(archive: Path, target: Path, progress: ProgressCallback = SILENT) -> None:
    """Unpack a zip or tar file into `target` once; members that point outside it are refused. Raises `DatasetError`."""
    marker = archive.with_suffix(archive.suffix + ".unpacked")
    if marker.exists():
        return
    progress.stage("unpack", archive.name)
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(target)
        else:
            with tarfile.open(archive) as tarred:
                tarred.extractall(target, filter="data")
    except (OSError, zipfile.BadZipFile, tarfile.TarError) as problem:
        raise DatasetError(
            f"{archive}: cannot be unpacked ({problem})", "delete it and fetch again; check the free disk space"
        ) from problem
    marker.touch()
