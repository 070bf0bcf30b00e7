"""The nano benchmark: a fixed set of questions about clips that training never drew, and the scoring of their answers.

`assets/benchmark.jsonl` holds one clip a line: its whole timeline and its questions. Clips become media files when they are first
needed. Voices are the held-out ones of `voices.py`; backgrounds, positions and noise come from seeds that training never used.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.nano.world import multiple_choice
from omnidrop_cli.nano.world.questions import WorldQuestion, ask
from omnidrop_cli.nano.world.scenario import Beep, Profile, Scenario, Show, Spoken, WordTaker, sample, typical_word_s
from omnidrop_cli.nano.world.vocabulary import Item

RECIPE = Path(__file__).parents[1] / "assets" / "benchmark.jsonl"
FIRST_LOOK = 1 << 30
"""Seeds of looks from here on belong to the benchmark; training draws below."""

LENGTHS: tuple[tuple[int, int, float], ...] = (
    (4, 40, 0.0), (6, 25, 0.0), (10, 40, 0.0), (15, 15, 0.0), (20, 25, 0.8), (30, 20, 1.0), (60, 12, 1.0),
)  # fmt: skip
"""Seconds, number of clips, share of needle clips."""

QUESTIONS_PER_CLIP = 7
NEEDLE_KINDS = frozenset(
    {"said while", "shown when", "is shown", "is said", "colour", "side", "height", "half", "number", "sign", "shown", "said"}
)


@dataclass(frozen=True, slots=True)
class BenchQuestion:
    """One question. `scoring` is exact, set (a list whose order does not matter) or letter."""

    id: str
    clip: str
    category: str
    kind: str
    needle: bool
    duration_s: float
    question: str
    answer: str
    scoring: str
    style: str = ""


# ---------------------------------------------------------------- reading the recipe


def questions() -> list[BenchQuestion]:
    """All questions, clip by clip."""
    return [question for line in _lines() for question in _read_questions(line)]


def make_clip(question: BenchQuestion, directory: Path) -> Path:
    """Render the question's clip into `directory` unless the file exists.

    Returns:
        The path of the clip.

    Raises:
        OmnidropError: Pillow, a font or a speech program is missing (the hint says what to install), or the disk is full.
    """
    try:
        from omnidrop_cli.nano.world import media_files
        from omnidrop_cli.nano.world.voices import VoiceBank, synthesise
    except ModuleNotFoundError as error:
        raise OmnidropError(f"the nano benchmark draws its clips with {error.name}", 'pip install "pillow>=10"') from error

    timeline = clip_timeline(question.clip)
    path = directory / f"{question.clip}{media_files.suffix(timeline)}"
    if path.exists():
        return path
    numbers = sorted({word.voice for word in timeline.words})
    cache = directory / "voices"
    synthesise(cache, numbers)
    return media_files.write(timeline, path, VoiceBank(cache, numbers))


def clip_timeline(clip: str) -> Scenario:
    """What happens in a clip of the recipe. Raises `OmnidropError` for an unknown name."""
    for line in _lines():
        if line["clip"] == clip:
            return _timeline(line["timeline"])
    raise OmnidropError(f"the nano benchmark has no clip {clip!r}", "`bench.questions()` lists them")


@lru_cache(maxsize=1)
def _lines() -> tuple[dict[str, Any], ...]:
    try:
        return tuple(json.loads(line) for line in RECIPE.read_text(encoding="utf-8").splitlines())
    except FileNotFoundError as error:
        raise OmnidropError("this installation has no nano benchmark", "reinstall omnidrop-cli") from error


def _read_questions(line: dict[str, Any]) -> list[BenchQuestion]:
    timeline = line["timeline"]
    shared = {"clip": line["clip"], "needle": timeline["needle"], "duration_s": timeline["duration_s"]}
    return [BenchQuestion(id=f"{line['clip']}-{number}", **shared, **row) for number, row in enumerate(line["questions"])]


def _timeline(row: dict[str, Any]) -> Scenario:
    shows = tuple(
        Show(**{**show, "item": Item(**show["item"]), "begin": tuple(show["begin"]), "end": tuple(show["end"])}) for show in row["shows"]
    )
    words, beeps = tuple(Spoken(**word) for word in row["words"]), tuple(Beep(**beep) for beep in row["beeps"])
    return Scenario(**{**row, "cells": tuple(row["cells"]), "shows": shows, "words": words, "beeps": beeps})


# ---------------------------------------------------------------- writing it (once)


def write_recipe(path: Path, voices: Sequence[int], word_s: WordTaker = typical_word_s, seed: int = 2605) -> None:
    """Draw the benchmark. It is drawn once and kept: a benchmark redrawn is another benchmark."""
    rng = np.random.default_rng(seed)
    asked: Counter[str] = Counter()
    with path.open("w", encoding="utf-8") as out:
        for seconds, count, needles in LENGTHS:
            profile = Profile(seconds, seconds, needle=needles, silent=0.06, sound_only=0.08, voices=voices, looks=(FIRST_LOOK, 1 << 31))
            for number in range(count):
                timeline = sample(rng, profile, word_s)
                picked = _pick(ask(timeline, rng), timeline.needle, asked, rng)
                row = {"clip": f"nano-{seconds:02d}s-{number:02d}", "timeline": _rounded(asdict(timeline)), "questions": picked}
                out.write(json.dumps(row, separators=(",", ":")) + "\n")


def _pick(pool: Sequence[WorldQuestion], needle: bool, asked: Counter[str], rng: np.random.Generator) -> list[dict[str, str]]:
    """The kinds asked least so far; each kind at most twice a clip; every fifth question as multiple choice."""
    pool = [question for question in pool if not needle or question.kind in NEEDLE_KINDS]
    here: Counter[str] = Counter()
    picked: list[dict[str, str]] = []
    while len(picked) < QUESTIONS_PER_CLIP:
        left = [question for question in pool if here[question.kind] < 2]
        if not left:
            break
        question = min(left, key=lambda q: (here[q.kind], asked[q.kind] + 2 * rng.random()))
        pool = [other for other in pool if other is not question]
        here[question.kind] += 1
        asked[question.kind] += 1
        if rng.random() < 0.2 and multiple_choice.can_choose(question):
            question = multiple_choice.as_choice(question, multiple_choice.STYLES[asked["choice"] % len(multiple_choice.STYLES)], rng)
            asked["choice"] += 1
        picked.append(_row(question))
    return picked


def _row(question: WorldQuestion) -> dict[str, str]:
    scoring = "letter" if question.style else "set" if question.kind in ("shown", "shown when") else "exact"
    return {
        "category": question.category,
        "kind": question.kind,
        "question": question.text,
        "answer": question.answer,
        "scoring": scoring,
        "style": question.style,
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list | tuple) else value


# ---------------------------------------------------------------- scoring


def is_right(question: BenchQuestion, answer: str) -> bool:
    """Whether a model's answer counts. Case, spaces and a final full stop do not matter; anything else does."""
    if question.scoring == "letter":
        found = re.search(r"\b([A-D])\b", answer)
        return found is not None and found[1] == question.answer
    given, wanted = _plain(answer), _plain(question.answer)
    if question.scoring == "set":
        return sorted(given.split(", ")) == sorted(wanted.split(", "))
    return given == wanted


def blind_accuracy(asked: Sequence[BenchQuestion]) -> float:
    """Accuracy of a guesser that knows neither clip nor question, only the commonest answer of each kind of question."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for question in asked:
        answers["choice" if question.style else question.kind][question.answer] += 1
    return sum(counter.most_common(1)[0][1] for counter in answers.values()) / len(asked)


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().rstrip(".").lower()
