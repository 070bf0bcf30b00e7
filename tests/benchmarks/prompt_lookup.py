"""What prompt lookup saves on nano's benchmark: `python -m tests.benchmarks.prompt_lookup [CLIPS]`.

Every clip is a conversation of its questions, then of the same questions again. Prints equal answers, decoder steps without and with
drafts, tokens drafted and accepted, and the seconds of both (alternated, one run), per round; and of both rounds where every answer has
32 tokens.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from omnidrop_cli import load, paths
from omnidrop_cli.engine.session import Session
from omnidrop_cli.nano.world.benchmark import BenchQuestion, make_clip, questions
from omnidrop_cli.outputs import Report

WIDTHS = (3, 7)
FORMS = ("first time", "asked again", "end tokens ignored")


def main(clips: int) -> None:
    """Measure on the first `clips` clips of the benchmark."""
    session = load("nano")
    folder = paths.benchmarks() / "nano"
    folder.mkdir(parents=True, exist_ok=True)
    asked = [list(group) for _, group in groupby(questions(), key=lambda question: question.clip)][:clips]
    files = [make_clip(group[0], folder) for group in asked]
    for width in WIDTHS:
        totals = {form: Counter[str]() for form in FORMS}
        for group, clip in zip(asked, files, strict=True):
            for form, plain, found in _conversation(session, group, clip, width):
                totals[form].update(_counts(plain, found))
        for form, total in totals.items():
            print(f"N={width} {form}: {dict(total)} time with/without {total['seconds'] / total['plain_seconds']:.2f}")


def _conversation(session: Session, group: Sequence[BenchQuestion], clip: Path, width: int) -> Iterator[tuple[str, Report, Report]]:
    endless = Session(replace(session.thinker, eos_ids=()), session.store)
    for owner, forms in ((session, FORMS[:2]), (endless, FORMS[2:] * 2)):
        plain, drafting = (owner.chat(clip, max_new_tokens=32, prompt_lookup=lookup) for lookup in (0, width))
        for form in forms:
            for number, question in enumerate(group):
                order = (plain, drafting) if number % 2 else (drafting, plain)
                reports = {one is plain: one.ask(question.question) for one in order}
                yield form, reports[True], reports[False]


def _counts(plain: Report, found: Report) -> dict[str, float]:
    drafts = found.answer.drafts
    if drafts is None:
        raise ValueError("nothing was drafted from")
    written = len(plain.answer.token_ids) + (plain.answer.finish_reason == "eos")
    return {
        "questions": 1,
        "equal": plain.answer.token_ids == found.answer.token_ids,
        "tokens": written,
        "steps_without": written - 1,
        "steps": drafts.steps,
        "drafted": drafts.drafted,
        "accepted": drafts.accepted,
        "plain_seconds": plain.timings.generate_s,
        "seconds": found.timings.generate_s,
    }


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
