"""Measure everything that a GPU can show in one call: what fails, how fast, how much memory.

python -m tests.gpu.first_run --out DIR [--budget 540] [--only STAGE,…] [--tiny]

Works offline. Stages come in order of their worth; DIR/gpu.json is written again after each, so that a run that is cut off keeps what
it has. A stage that fails leaves its error there. `--tiny` runs every stage on a CPU with a model in miniature.
"""

from __future__ import annotations

import argparse
import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from omnidrop_cli import fileio
from tests.gpu import answers, decoder, hardware, options
from tests.gpu.machine import Facts, Machine

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Stage:
    """A measurement that needs about `seconds`."""

    name: str
    seconds: float
    measure: Callable[[], Facts]


def stages(machine: Machine) -> list[Stage]:
    """Every stage, the most valuable first."""
    minute, ten = (60.0, 600.0) if machine.cuda else (6.0, 12.0)
    prefills, decoding = partial(decoder.prefills, machine), partial(decoder.decoding, machine)
    asks, picks = partial(answers.asks, machine), partial(decoder.picks, machine)
    few = ("none", "omnidrop@0.3", "omnidrop@0.1", "seats@0.3", "omnizip@0.3")
    rest = tuple(label for label in ("omnidrop@0.2", "fastv@0.3", *decoder.OTHERS) if label not in few)
    window = 11_000 if machine.cuda else 60
    return [
        Stage("environment", 0, partial(hardware.environment, machine)),
        Stage("ceilings", 5, partial(hardware.ceilings, machine)),
        Stage("prefill 7b 60 s", 60, partial(prefills, "7b", minute)),
        Stage("decoding 7b 60 s", 40, partial(decoding, "7b", minute, ("none", "omnidrop@0.3", "omnidrop@0.1"))),
        Stage("lookup 7b 60 s", 15, partial(options.lookup, machine, "7b", minute, "omnidrop@0.3")),
        Stage("heads", 15, partial(options.heads, machine)),
        Stage("ask 7b 60 s", 25, partial(asks, "7b", minute, "omnidrop@0.3")),
        Stage("auto", 1, partial(options.auto, machine)),
        Stage("prefill 7b 60 s, others", 40, partial(prefills, "7b", minute, ("none", *decoder.OTHERS))),
        Stage("nano options", 15, partial(answers.nano_options, machine)),
        Stage("flash_attn", 15, partial(options.flash, machine, minute)),
        Stage("attention plans", 10, partial(hardware.attention_plans, machine)),
        Stage("similarities", 5, partial(hardware.similarities, machine)),
        Stage("nf4 products", 10, partial(hardware.nf4_products, machine)),
        Stage("profile 7b 60 s", 25, partial(decoder.profile, machine, "7b", minute)),
        Stage("waits 7b 20 s", 20, partial(decoder.waits, machine, "7b", minute / 3)),
        Stage("picks, 30 windows of 338", 5, partial(picks, 338 if machine.cuda else 12, 30, 0.3)),
        Stage("picks, one window of 11,000", 10, partial(picks, window, 1, 0.3)),
        Stage("int8 random", 10, partial(answers.int8_random, machine)),
        Stage("prefill 7b 600 s", 60, partial(prefills, "7b", ten, few, 1)),
        Stage("prefill 7b 600 s, omniblend", 40, partial(prefills, "7b", ten, ("omniblend@0.3", "omnipack@0.3"), 1)),
        Stage("decoding 7b 600 s", 40, partial(decoding, "7b", ten, ("none", "omnidrop@0.3"), 48)),
        Stage("ask 7b 600 s, 24 GB", 40, partial(asks, "7b", ten, "omnidrop@0.3", cap_gb=24)),
        Stage("ask 7b 600 s, 12 GB", 40, partial(asks, "7b", ten, "omnidrop@0.3", cap_gb=12)),
        Stage("tests marked gpu", 30, partial(answers.pytest_run, "-m", "gpu", "tests/engine", "tests/gpu")),
        Stage("tests of kernels", 40, partial(answers.pytest_run, "tests/kernels")),
        Stage("nano answers", 45, partial(answers.nano_answers, machine)),
        Stage("prefill 7b 600 s, others", 40, partial(prefills, "7b", ten, rest, 1)),
        Stage("prefill 3b 60 s", 40, partial(prefills, "3b", minute, ("none", "omnidrop@0.3"))),
        Stage("decoding 3b 60 s", 30, partial(decoding, "3b", minute, ("none", "omnidrop@0.3"))),
        Stage("ask 3b 60 s, 8 GB", 30, partial(asks, "3b", minute, "omnidrop@0.3", cap_gb=8)),
        Stage("prefill 3b 600 s", 40, partial(prefills, "3b", ten, ("none", "omnidrop@0.3"), 1)),
        Stage("tests of versions", 60, partial(answers.pytest_run, "tests/compat")),
    ]


def run(machine: Machine, out: Path, only: tuple[str, ...] = ()) -> Facts:
    """Run the stages whose name contains one of `only` (all, if empty) while time is left; the facts of each by its name."""
    results: Facts = {"seconds": {}}
    for stage in stages(machine):
        if only and not any(part in stage.name for part in only):
            continue
        start = time.monotonic()
        if machine.left_s < stage.seconds:
            results[stage.name] = f"skipped, {machine.left_s:.0f} s were left"
        else:
            try:
                results[stage.name] = stage.measure()
            except Exception as error:  # the other stages still run
                text = "".join(traceback.format_exception(error)).replace(f"{ROOT}/", "")  # the file is published
                results[stage.name] = {"error": f"{type(error).__name__}: {error}"[:1500], "trace": text[-3000:]}
        machine.free()
        results["seconds"][stage.name] = round(time.monotonic() - start, 1)
        results["loads"] = machine.loads
        fileio.write_text(out / "gpu.json", json.dumps(results, indent=1, default=str) + "\n")
        print(f"{stage.name}: {results['seconds'][stage.name]} s  {json.dumps(results[stage.name], default=str)[:500]}", flush=True)
    return results


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.first_run", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget", type=float, default=540, help="seconds in all")
    parser.add_argument("--only", default="", help="parts of stage names, separated by commas")
    parser.add_argument("--tiny", action="store_true", help="on the CPU, with a model in miniature")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    run(Machine(given.tiny, given.budget), given.out, tuple(filter(None, given.only.split(","))))


if __name__ == "__main__":
    main()
