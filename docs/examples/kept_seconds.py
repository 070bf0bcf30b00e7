"""Show which seconds of a clip reach the last decoder layers that have media tokens, by modality.

python docs/examples/kept_seconds.py [CLIP] [QUESTION]
"""

from __future__ import annotations

import sys
from collections import Counter

import omnidrop_cli as omnidrop


def main(clip: str = "demo", question: str = "What is said while the car is shown?", model: str = "nano") -> None:
    session = omnidrop.load(model)
    report = session.ask(clip, question)
    for run in report.kept:
        if len(run):
            seconds = Counter(int(second) for second in run.second)
            line = " ".join(f"{seconds[second]:3}" for second in range(int(report.clip.duration_s)))
            print(f"layers {run.first_layer:2}-{run.last_layer:2}: {line}")


if __name__ == "__main__":
    main(*sys.argv[1:])
