"""Records of an evaluation: a question, a benchmark, a method with its budget, and the row of one answer. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omnidrop_cli import jsonl
from omnidrop_cli.config import MediaConfig, PruningConfig
from omnidrop_cli.evaluate.parse_answer import letter

SCHEMA = 2
"""Version of a row's shape. Version 1 had `arm` for `method`."""


@dataclass(frozen=True, slots=True)
class Question:
    """One benchmark question.

    `options` are the lines shown to the model ("A. a dog"), empty for an open question; `answer` is the right letter, or the open
    answer's words. `labels` are what accuracy is broken down by, in table order. Questions with the same `media` share a clip.
    """

    id: str
    media: str
    text: str
    options: tuple[str, ...]
    answer: str
    labels: Mapping[str, str] = field(default_factory=dict)


def multiple_choice(question: Question, answer: str) -> tuple[str | None, bool]:
    """The letter in an answer, and whether it is the right one."""
    chosen = letter(answer, question.options, question.text)
    return chosen, chosen == question.answer


@dataclass(frozen=True, slots=True)
class Hub:
    """Where a benchmark is published: a data set repository of the hub, and the files it takes."""

    repo: str
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark and its protocol: how its files are read, and how the model is asked.

    `read` turns a directory into questions and raises `DatasetError`; `prompt` is the user's turn; `system` None is Qwen's own system
    prompt. `judge` reads an answer: what was chosen (None: unclear), and whether it is right. `prepare`, where given, makes a
    question's clip on demand and returns its path. `headline`, a label and a value, are the questions with a column in the first table.
    `source` names the published protocol, `model` what "auto" stands for.
    """

    name: str
    title: str
    read: Callable[[Path], list[Question]]
    prompt: Callable[[Question], str]
    max_new_tokens: int
    source: str
    system: str | None = None
    media_options: MediaConfig = field(default_factory=MediaConfig)
    model: str = "auto"
    hub: Hub | None = None
    judge: Callable[[Question, str], tuple[str | None, bool]] = multiple_choice
    prepare: Callable[[Question], str] | None = None
    headline: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """A method with its budget: one row of the tables. `label` is what the user wrote."""

    label: str
    choice: PruningConfig


@dataclass(frozen=True, slots=True)
class Measured:
    """What one answer cost. Seconds; megabytes (1e6 bytes); retention as shares of audio and video tokens, in both conventions.

    `encode_s` is the encoders' time of the question that read the clip, 0 where the clip's features were used again. `flops_encoders` is
    what both encoders cost where nothing is used again; 0 in rows from before it was kept.
    """

    tokens: int
    media_tokens: int
    retention_entering: float
    retention_after: float
    encode_s: float
    prefill_s: float
    generate_s: float
    peak_mb: float
    kv_mb: float
    flops_full: int
    flops_pruned: int
    flops_encoders: int = 0


_TYPES: Mapping[str, tuple[type, ...]] = {
    "labels": (dict,),
    "answer": (str, type(None)),
    "prediction": (str, type(None)),
    "correct": (bool,),
    "measured": (dict, type(None)),
    "error": (dict, type(None)),
    "model": (dict,),
    "warnings": (list,),
}
"""What the fields of a row that are not plain text may hold."""


@dataclass(frozen=True, slots=True)
class Row:
    """One question under one method: a line of the results file.

    `prediction` is what was read out of `answer` (a letter), None where nothing could be. `error` (type, message, hint) stands in for
    both and for `measured`. `settings` are those of the run that a reader of the row needs: its `timing` ("true" where absent).
    """

    key: str
    benchmark: str
    question: str
    media: str
    method: str
    labels: Mapping[str, str]
    gold: str
    answer: str | None = None
    prediction: str | None = None
    correct: bool = False
    measured: Measured | None = None
    error: Mapping[str, str | None] | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The row's published shape: its fields and a schema number."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Row:
        """The inverse of `to_json`, also of version 1. Raises `ValueError` for anything else."""
        if data.get("schema") not in (1, SCHEMA):
            raise ValueError(f"schema {data.get('schema')!r}, expected {SCHEMA}")
        if data["schema"] == 1:
            data = {"method": data.get("arm"), **{name: value for name, value in data.items() if name != "arm"}}
        for name in ("key", "benchmark", "question", "media", "method", "gold"):
            jsonl.field(data, name, str)
        for name, kinds in _TYPES.items():
            if name in data:
                jsonl.field(data, name, *kinds)
        values = {name: value for name, value in data.items() if name != "schema"}
        measured, warnings = values.pop("measured", None), values.pop("warnings", ())
        try:
            return cls(measured=None if measured is None else Measured(**_numbers(measured)), warnings=tuple(warnings), **values)
        except TypeError as problem:
            raise ValueError(str(problem)) from problem


def _numbers(measured: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in measured:
        jsonl.field(measured, name, int, float)
    return measured
