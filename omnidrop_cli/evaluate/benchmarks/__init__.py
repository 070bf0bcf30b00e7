"""The registry of benchmarks: a name becomes a `Benchmark`, and a benchmark the questions of a directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omnidrop_cli.errors import DatasetError, UsageError
from omnidrop_cli.evaluate.benchmarks import avut, dailyomni, nano, videomme, worldsense
from omnidrop_cli.evaluate.dataset_download import directory
from omnidrop_cli.evaluate.items import Benchmark, Question
from omnidrop_cli.in_use import keep_in_use
from omnidrop_cli.suggest import did_you_mean

_ALL = (videomme.BENCHMARK, worldsense.BENCHMARK, avut.BENCHMARK, dailyomni.BENCHMARK, nano.BENCHMARK)
BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}


def find(name: str) -> Benchmark:
    """A benchmark by name; case, hyphens and underscores do not count. Raises `UsageError`."""
    plain = name.lower().replace("-", "").replace("_", "")
    if plain not in BENCHMARKS:
        raise UsageError(f"unknown benchmark '{name}'", did_you_mean(plain, BENCHMARKS, f"known: {', '.join(BENCHMARKS)}"))
    return BENCHMARKS[plain]


def questions(benchmark: Benchmark, data: Path | None, limit: int | None = None) -> list[Question]:
    """The benchmark's questions from `data`, or from where `fetch` puts them. Raises `DatasetError`."""
    root = data or directory(benchmark)
    if data is None and benchmark.hub is not None and not root.is_dir():
        raise DatasetError(
            f"{benchmark.title} is not on this disk",
            f"give its directory with `data`, or download {benchmark.hub.repo} with `fetch` (tens of gigabytes)",
        )
    keep_in_use(root)  # `cache clean` then leaves it alone
    found = benchmark.read(root)
    if not found:
        raise DatasetError(f"{root}: no questions in it", "is the download complete?")
    return spread(found, limit)


def spread(questions: Sequence[Question], limit: int | None) -> list[Question]:
    """At most `limit` questions, evenly spaced: the sets are sorted by length or topic, so the first ones are not typical."""
    if limit is None or limit >= len(questions):
        return list(questions)
    return [questions[at * len(questions) // limit] for at in range(limit)]
