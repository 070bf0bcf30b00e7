"""Ask several questions about one clip. The clip is decoded and encoded once; each question is pruned by its own words.

python docs/examples/several_questions.py [CLIP]
"""

from __future__ import annotations

import sys

import omnidrop_cli as omnidrop

QUESTIONS = ("What is said?", "What is shown?", "Is the rocket shown?")


def main(clip: str = "demo", model: str = "nano") -> None:
    session = omnidrop.load(model)
    for question in QUESTIONS:
        report = session.ask(clip, question)
        print(f"{question:24} {report.answer.text:32} kept {report.trace.retention_after:.0%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
