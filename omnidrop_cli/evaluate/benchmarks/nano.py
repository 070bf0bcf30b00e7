"""The nano benchmark: synthetic clips and questions for the built-in model.

Adapts `nano.world.benchmark` to `Benchmark`. A clip is rendered when it is first needed, once, into the cache or --data. Questions are
mostly open; multiple choice comes in the other benchmarks' wordings.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from omnidrop_cli.evaluate.items import Benchmark, Question
from omnidrop_cli.in_use import keep_in_use

if TYPE_CHECKING:
    from omnidrop_cli.nano.world.benchmark import BenchQuestion

NEEDLES = "needles"
"""Questions whose evidence is a small part of a long clip: what pruning endangers."""


def read(root: Path) -> list[Question]:
    """All questions; their clips will lie in `root`. Raises `OmnidropError` where the installation has no benchmark."""
    return [
        Question(
            id=question.id,
            media=str(root / question.clip),
            text=question.question,
            options=(),
            answer=question.answer,
            labels={
                "category": question.category,
                "length": f"{question.duration_s:02.0f} s",
                "needle": NEEDLES if question.needle else "anywhere",
            },
        )
        for question in _recipe().values()
    ]


def prompt(question: Question) -> str:
    """The question as it stands: the model was trained on these wordings."""
    return question.text


def prepare(question: Question) -> str:
    """Make the question's clip unless it is there; its path. Raises `OmnidropError` with what to install."""
    from omnidrop_cli.nano.world import benchmark

    path = benchmark.make_clip(_recipe()[question.id], Path(question.media).parent)
    keep_in_use(path.parent)  # there was no folder before the first clip
    return str(path)


def judge(question: Question, answer: str) -> tuple[str | None, bool]:
    """The answer as given, and whether the benchmark counts it as right."""
    from omnidrop_cli.nano.world import benchmark

    return answer.strip() or None, benchmark.is_right(_recipe()[question.id], answer)


@lru_cache(maxsize=1)
def _recipe() -> dict[str, BenchQuestion]:
    from omnidrop_cli.nano.world import benchmark

    return {question.id: question for question in benchmark.questions()}


BENCHMARK = Benchmark(
    name="nano",
    title="nano: a made-up world for the built-in model",
    read=read,
    prompt=prompt,
    max_new_tokens=32,
    source="fixed questions about synthetic clips, unseen voices; says nothing about other models or the real world",
    model="nano",
    prepare=prepare,
    judge=judge,
    headline=("needle", NEEDLES),
)
