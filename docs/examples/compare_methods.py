"""Compare pruning methods on one question: the answer, the tokens kept, and the FLOPs of the prefill.

python docs/examples/compare_methods.py [CLIP] [QUESTION]
"""

from __future__ import annotations

import sys

import omnidrop_cli as omnidrop

METHODS = ("none", "omnidrop", "omniblend", "divprune", "random")


def main(clip: str = "demo", question: str = "What is said while the car is shown?", model: str = "nano") -> None:
    session = omnidrop.load(model)
    for name in METHODS:
        report = session.ask(clip, question, method=name, keep=None if name == "none" else 0.3)
        cost = report.flops.pruned / report.flops.full
        print(f"{name:10} {report.answer.text:20} kept {report.trace.retention_after:4.0%}   prefill FLOPs {cost:4.0%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
