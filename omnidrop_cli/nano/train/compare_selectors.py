"""Compares the trained selector with an untrained one: `python -m omnidrop_cli.nano.train.compare_selectors --model DIR --voices DIR`

Asks the same questions under `omnisift` with both, by `quick_score.py`. Slower, with real files and more statistics:
`omnidrop evaluate nano --methods omnisift@0.3,omnisift@0.3:selector=untrained`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.evaluate.stats import mcnemar
from omnidrop_cli.nano.world.benchmark import is_right

if TYPE_CHECKING:
    from omnidrop_cli.nano.train.labels import MediaLabels
    from omnidrop_cli.nano.train.quick_score import Answered
    from omnidrop_cli.prune.audio_selector import AudioSelector

KEEPS = (0.5, 0.3, 0.2, 0.1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line per share kept: accuracy with both selectors, how many questions only one of them got right, and McNemar's p."""
    parser = argparse.ArgumentParser(
        prog="python -m omnidrop_cli.nano.train.compare_selectors", description="Trained against untrained selector."
    )
    parser.add_argument("--model", type=Path, required=True, help="exported checkpoint with its selector")
    parser.add_argument("--voices", type=Path, required=True, help="voice cache; the benchmark's voices are added to it")
    parser.add_argument("--keep", type=float, nargs="+", default=KEEPS)
    parser.add_argument("--every", type=int, default=1, help="take every n-th clip")
    options = parser.parse_args(arguments)
    try:
        _compare(options.model, options.voices, options.keep, options.every)
    except OmnidropError as error:
        print(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""), file=sys.stderr)
        return error.exit_code
    return 0


def _compare(model: Path, voices: Path, keeps: Sequence[float], every: int) -> None:
    import torch

    from omnidrop_cli.config import ModelConfig
    from omnidrop_cli.model.load import load
    from omnidrop_cli.nano.train import drop_schedule
    from omnidrop_cli.nano.train.quick_score import score
    from omnidrop_cli.nano.train.selector_stage import sift
    from omnidrop_cli.nano.world.voices import VoiceBank, synthesise
    from omnidrop_cli.nano.world.voices import voices as everyone
    from omnidrop_cli.prune.audio_selector import load_selector

    held_out = [number for number, voice in enumerate(everyone()) if voice.held_out]
    synthesise(voices, held_out)
    bank = VoiceBank(voices, held_out)
    trained = load_selector(str(model))
    thinker = load(ModelConfig(str(model), device="cpu"))
    layers = thinker.adapter.num_layers
    shares = drop_schedule.full_then_none(layers, layers - layers // 4, 1)

    def answers(which: AudioSelector | None, keep: float) -> Answered:
        def sifting(labels: MediaLabels, media: torch.Tensor) -> torch.Tensor:
            return sift(labels, media, which, keep)[0]

        return score(thinker.model, thinker.tokenizer, bank, lambda: shares, every, sifting)

    print("keep   trained  untrained  only trained  only untrained  p")
    for keep in keeps:
        print(line(keep, answers(trained, keep), answers(None, keep)), flush=True)


def line(keep: float, trained: Answered, untrained: Answered) -> str:
    """One row of the table; both lists hold the same questions in the same order."""
    pairs = [(is_right(q, a), is_right(r, b)) for (q, a), (r, b) in zip(trained, untrained, strict=True)]
    first, second = (sum(side) / len(pairs) for side in zip(*pairs, strict=True))
    only_first, only_second = sum(a > b for a, b in pairs), sum(b > a for a, b in pairs)
    return f"{keep:<6g} {first:7.3f}  {second:9.3f}  {only_first:12}  {only_second:14}  {mcnemar(only_first, only_second):.2g}"


if __name__ == "__main__":
    sys.exit(main())
