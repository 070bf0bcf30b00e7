"""Rows → the numbers of the tables.

Knows: what is compared with what. Accuracy is over the questions an arm answered (an unparsed answer is a wrong one; a failed row is no
answer and is counted apart); pairs are compared over the questions both answered. Does not know: how a table is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import fmean, median
from typing import Any

from omnidrop_cli import stats
from omnidrop_cli.evaluate.records import Benchmark, Question, Row
from omnidrop_cli.records import MediaOptions

SCHEMA = 1
"""Version of the summary's JSON shape."""

Answers = Mapping[str, Mapping[str, Row]]
"""Arm label to question id to row."""


@dataclass(frozen=True, slots=True)
class Score:
    """Right answers of `n`, with a Wilson 95 % interval. Shares of one."""

    n: int
    correct: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """One arm over a benchmark. Retention, seconds and megabytes as in `Measured`; None where nothing was answered.

    `prefill_s` is the median; `flops` the prefill's FLOPs over the full prefill's, summed; `peak_mb` the largest peak.
    """

    arm: str
    score: Score
    unparsed: int
    errors: int
    retention_entering: float | None
    retention_after: float | None
    prefill_s: float | None
    flops: float | None
    peak_mb: float | None
    kv_mb: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """Accuracy of every arm on the questions whose `label` has `value`."""

    label: str
    value: str
    scores: Mapping[str, Score]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two arms on the `n` questions both answered.

    `difference` is the second's accuracy less the first's, `low` and `high` its 95 % interval (bootstrap over clips); `p` is McNemar's
    exact test, `p_holm` the same corrected for the number of pairs.
    """

    first: str
    second: str
    n: int
    first_only: int
    second_only: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything the tables show."""

    benchmark: str
    title: str
    protocol: str
    questions: int
    clips: int
    text_first: bool
    media_options: MediaOptions
    model: Mapping[str, Any]
    arms: tuple[ArmSummary, ...]
    groups: tuple[Group, ...]
    pairs: tuple[Pair, ...]

    def to_json(self) -> dict[str, Any]:
        """The summary's published shape."""
        return {"schema": SCHEMA, **asdict(self)}


def summarise(
    benchmark: Benchmark, questions: Sequence[Question], answers: Answers, media_options: MediaOptions, text_first: bool = False
) -> Summary:
    """The summary of `answers` to `questions`; questions without a row yet are left out of every figure."""
    good = {arm: {name: row for name, row in rows.items() if row.error is None} for arm, rows in answers.items()}
    model = next((row.model for rows in good.values() for row in rows.values()), {})
    return Summary(
        benchmark=benchmark.name,
        title=benchmark.title,
        protocol=benchmark.source,
        questions=len(questions),
        clips=len({question.media for question in questions}),
        text_first=text_first,
        media_options=media_options,
        model=model,
        arms=tuple(_arm(arm, list(rows.values()), len(answers[arm]) - len(rows)) for arm, rows in good.items()),
        groups=tuple(_groups(questions, good)),
        pairs=tuple(_pairs(good)),
    )


def score(rows: Sequence[Row]) -> Score:
    """Accuracy of answered rows."""
    correct = sum(row.correct for row in rows)
    low, high = stats.wilson(correct, len(rows))
    return Score(len(rows), correct, correct / len(rows) if rows else 0.0, low, high)


def _arm(arm: str, rows: Sequence[Row], errors: int) -> ArmSummary:
    measured = [row.measured for row in rows if row.measured is not None]
    return ArmSummary(
        arm=arm,
        score=score(rows),
        unparsed=sum(row.prediction is None for row in rows),
        errors=errors,
        retention_entering=fmean(m.retention_entering for m in measured) if measured else None,
        retention_after=fmean(m.retention_after for m in measured) if measured else None,
        prefill_s=median(m.prefill_s for m in measured) if measured else None,
        flops=sum(m.flops_pruned for m in measured) / sum(m.flops_full for m in measured) if measured else None,
        peak_mb=max(m.peak_mb for m in measured) if measured else None,
        kv_mb=fmean(m.kv_mb for m in measured) if measured else None,
    )


def _groups(questions: Sequence[Question], good: Answers) -> list[Group]:
    labels = list(dict.fromkeys(label for question in questions for label in question.labels))
    groups = []
    for label in labels:
        for value in sorted({question.labels[label] for question in questions if question.labels.get(label)}):
            names = [question.id for question in questions if question.labels.get(label) == value]
            groups.append(Group(label, value, {arm: score([rows[name] for name in names if name in rows]) for arm, rows in good.items()}))
    return groups


def _pairs(good: Answers) -> list[Pair]:
    drafts = [_pair(first, second, good) for first, second in combinations(good, 2)]
    adjusted = stats.holm([float(draft["p"]) for draft in drafts])
    return [Pair(**draft, p_holm=p) for draft, p in zip(drafts, adjusted, strict=True)]


def _pair(first: str, second: str, good: Answers) -> dict[str, Any]:
    shared = [(good[first][name], good[second][name]) for name in good[first] if name in good[second]]
    differences = [float(b.correct) - float(a.correct) for a, b in shared]
    first_only, second_only = differences.count(-1.0), differences.count(1.0)
    low, high = stats.paired_bootstrap(differences, [a.media for a, _ in shared])
    return {
        "first": first,
        "second": second,
        "n": len(shared),
        "first_only": first_only,
        "second_only": second_only,
        "difference": fmean(differences) if differences else 0.0,
        "low": low,
        "high": high,
        "p": stats.mcnemar(first_only, second_only),
    }
