"""Rows in, the numbers of the tables out.

Accuracy is over the questions a method answered: an unparsed answer is a wrong one, a failed row is no answer and is counted apart. Pairs
are compared over the questions both answered. Every method is compared with the full model, and with the first method of its own budget.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from omnidrop_cli.config import MediaConfig
from omnidrop_cli.evaluate import stats
from omnidrop_cli.evaluate.items import Benchmark, Measured, Question, Row

SCHEMA = 2
"""Version of the summary's JSON shape. Version 1 had `arms` and `arm` for `methods` and `method`."""

Answers = Mapping[str, Mapping[str, Row]]
"""Method label to question id to row."""


@dataclass(frozen=True, slots=True)
class Score:
    """Right answers of `n`, with a Wilson 95 % interval. Shares of one."""

    n: int
    correct: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class MethodSummary:
    """One method over a benchmark. Retention, seconds and megabytes as in `Measured`; None where nothing was answered.

    `prefill_s` is the median, `prefill` the same over that of the full model in the same run; `flops` the prefill's FLOPs over the full
    prefill's, summed, and `flops_with_encoders` the same with both encoders in each; `peak_mb` the largest peak.
    """

    method: str
    score: Score
    unparsed: int
    errors: int
    retention_entering: float | None
    retention_after: float | None
    prefill_s: float | None
    prefill: float | None
    flops: float | None
    peak_mb: float | None
    kv_mb: float | None
    flops_with_encoders: float | None = None


@dataclass(frozen=True, slots=True)
class LabelGroup:
    """Accuracy of every method on the questions whose `label` has `value`."""

    label: str
    value: str
    scores: Mapping[str, Score]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two methods on the `n` questions both answered.

    `difference` is the second's accuracy less the first's, `low` and `high` its 95 % interval (bootstrap over clips); `p` is McNemar's
    exact test, `p_holm` the same corrected for the number of pairs with the same first method.
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
    """Everything the tables show. `full` is the method without pruning, None where none ran; `headline` as in `Benchmark`;
    `headline_pairs` are the pairs over its questions alone."""

    benchmark: str
    title: str
    protocol: str
    questions: int
    clips: int
    text_first: bool
    timing: str
    headline: tuple[str, str] | None
    full: str | None
    media_options: MediaConfig
    model: Mapping[str, Any]
    methods: tuple[MethodSummary, ...]
    groups: tuple[LabelGroup, ...]
    pairs: tuple[Pair, ...]
    headline_pairs: tuple[Pair, ...]

    def to_json(self) -> dict[str, Any]:
        """The summary's published shape."""
        return {"schema": SCHEMA, **asdict(self)}


def summarise(
    benchmark: Benchmark,
    questions: Sequence[Question],
    answers: Answers,
    media_options: MediaConfig,
    *,
    text_first: bool = False,
    timing: str = "true",
) -> Summary:
    """The summary of `answers` to `questions`; questions without a row yet are left out of every figure."""
    good = {method: {name: row for name, row in rows.items() if row.error is None} for method, rows in answers.items()}
    model = next((row.model for rows in good.values() for row in rows.values()), {})
    full = next((method for method, rows in good.items() if rows and all(_unpruned(row) for row in rows.values())), None)
    full_s = _prefill_s(good[full].values()) if full is not None else None
    apart = {question.id for question in questions if benchmark.headline and benchmark.headline in question.labels.items()}
    headline = {method: {name: row for name, row in rows.items() if name in apart} for method, rows in good.items()}
    return Summary(
        benchmark=benchmark.name,
        title=benchmark.title,
        protocol=benchmark.source,
        questions=len(questions),
        clips=len({question.media for question in questions}),
        text_first=text_first,
        timing=timing,
        headline=benchmark.headline,
        full=full,
        media_options=media_options,
        model=model,
        methods=tuple(
            _method_summary(method, list(rows.values()), len(answers[method]) - len(rows), full_s) for method, rows in good.items()
        ),
        groups=tuple(_groups(questions, good)),
        pairs=tuple(_pairs(good, full)),
        headline_pairs=tuple(_pairs(headline, full)) if apart else (),
    )


def score(rows: Sequence[Row]) -> Score:
    """Accuracy of answered rows."""
    correct = sum(row.correct for row in rows)
    low, high = stats.wilson(correct, len(rows))
    return Score(len(rows), correct, correct / len(rows) if rows else 0.0, low, high)


def budget(method: str) -> str:
    """The budget in a method's label: what stands between @ and the options."""
    return method.partition("@")[2].partition(":")[0]


def _unpruned(row: Row) -> bool:
    return row.measured is not None and row.measured.retention_after == 1.0


def _prefill_s(rows: Iterable[Row]) -> float | None:
    seconds = [row.measured.prefill_s for row in rows if row.measured is not None]
    return median(seconds) if seconds else None


def _method_summary(method: str, rows: Sequence[Row], errors: int, full_prefill_s: float | None) -> MethodSummary:
    measured = [row.measured for row in rows if row.measured is not None]
    prefill_s = _prefill_s(rows)
    return MethodSummary(
        method=method,
        score=score(rows),
        unparsed=sum(row.prediction is None for row in rows),
        errors=errors,
        retention_entering=fmean(m.retention_entering for m in measured) if measured else None,
        retention_after=fmean(m.retention_after for m in measured) if measured else None,
        prefill_s=prefill_s,
        prefill=prefill_s / full_prefill_s if prefill_s and full_prefill_s else None,
        flops=sum(m.flops_pruned for m in measured) / sum(m.flops_full for m in measured) if measured else None,
        flops_with_encoders=_flops_with_encoders(measured),
        peak_mb=max(m.peak_mb for m in measured) if measured else None,
        kv_mb=fmean(m.kv_mb for m in measured) if measured else None,
    )


def _flops_with_encoders(measured: Sequence[Measured]) -> float | None:
    """FLOPs of encoders and prefill over those without pruning; None where a row lacks the encoders' FLOPs."""
    if not measured or not all(m.flops_encoders for m in measured):
        return None
    encoders = sum(m.flops_encoders for m in measured)
    return (sum(m.flops_pruned for m in measured) + encoders) / (sum(m.flops_full for m in measured) + encoders)


def _groups(questions: Sequence[Question], good: Answers) -> list[LabelGroup]:
    labels = list(dict.fromkeys(label for question in questions for label in question.labels))
    groups = []
    for label in labels:
        for value in sorted({question.labels[label] for question in questions if question.labels.get(label)}):
            names = [question.id for question in questions if question.labels.get(label) == value]
            groups.append(
                LabelGroup(label, value, {method: score([rows[name] for name in names if name in rows]) for method, rows in good.items()})
            )
    return groups


def _pairs(good: Answers, full: str | None) -> list[Pair]:
    families: dict[str, list[str]] = {} if full is None else {full: [method for method in good if method != full]}
    pruned = [method for method in good if method != full]
    for method in pruned:
        first = next(other for other in pruned if budget(other) == budget(method))
        if method != first:
            families.setdefault(first, []).append(method)
    pairs = []
    for first, seconds in families.items():
        drafts = [_pair(first, second, good) for second in seconds]
        adjusted = stats.holm([float(draft["p"]) for draft in drafts])
        pairs += [Pair(**draft, p_holm=p) for draft, p in zip(drafts, adjusted, strict=True)]
    return pairs


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
