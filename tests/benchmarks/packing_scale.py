"""Time and memory of OmniPack's input stage on video alone, ours and a dense form, one process per run.

    python -m tests.benchmarks.packing_scale --tokens 55296 --dim 2048
    python -m tests.benchmarks.packing_scale --tokens 6912,13824 --dim 2048 --form dense
    python -m tests.benchmarks.packing_scale --tokens 288,576 --dim 2048 --form loops

Prints one Markdown row per run: processor seconds of the stage on one thread, and resident memory that it took beyond its inputs, also
as a share of one float32 matrix of all pairs. All forms keep the same tokens. "dense" holds all pairs and takes one Python step per token
where published code does; "loops" is the slow form of the tests, one step per pair. The setting is the paper's 25 %: a fifth of the
tokens enters. Random embeddings, 144 tokens a grid.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import torch
from torch import Tensor
from torch.nn.functional import normalize

from omnidrop_cli.config import PruningConfig
from omnidrop_cli.prune import packing, topk
from omnidrop_cli.prune.base import InputView, PromptInfo
from omnidrop_cli.prune.methods import get_method
from omnidrop_cli.prune.methods.omnipack import Pack, coordinates_of
from tests.prune import published_omnipack
from tests.prune.fakes import input_view, token_map

CELLS = (9, 16)


def stage_and_view(tokens: int, dim: int) -> tuple[Pack, InputView]:
    """The paper's 25 % on a clip of about `tokens` video tokens without audio."""
    prompt = token_map((), (2,) * (tokens // (2 * CELLS[0] * CELLS[1])), CELLS)
    stage = get_method(PruningConfig("omnipack", preset="paper-25")).plan(PromptInfo(prompt, 28)).input_stage
    if not isinstance(stage, Pack):
        raise TypeError("omnipack's input stage is a Pack")
    return stage, input_view(prompt, dim=dim)


def dense(stage: Pack, view: InputView) -> tuple[Tensor, Tensor]:
    """The stage with all pairs at once and one Python step per token: kept indices and merged embeddings."""
    from omnidrop_cli.outputs import Modality

    features, keep = view.video, stage.video
    salience = stage._salience(view, Modality.VIDEO, features, keep / features.shape[0])
    places, unit = coordinates_of(view.tokens, Modality.VIDEO, features), normalize(features.float(), dim=-1)
    dominant = topk.top(salience, max(1, round(0.25 * keep)))
    rest = topk.without(dominant, features.shape[0])
    distance = 1 - unit[rest] @ unit[rest].T + 0.2 * packing._apart(places[rest], places[rest])
    near = distance.fill_diagonal_(float("inf")).sort(dim=1).values[:, : packing.NEIGHBOURS]
    density = near.square().mean(dim=1).neg().exp() * (1 + packing.SALIENCE_WEIGHT * packing.minmax(salience[rest]))
    distance.fill_diagonal_(0.0)
    delta = torch.empty_like(density)
    for token in range(rest.shape[0]):
        denser = density > density[token]
        delta[token] = distance[token][denser].min() if denser.any() else distance[token].max()
    kept = torch.cat((dominant, rest[topk.top(density * delta, keep - dominant.shape[0])])).sort().values
    dropped = topk.without(kept, features.shape[0])
    affinity = unit[dropped] @ unit[kept].T - 0.1 * packing._apart(places[dropped], places[kept]) + 0.1 * packing.minmax(salience[kept])
    weights = 0.5 + 0.5 * packing.minmax(salience[dropped])
    total, mass = features[kept].float().clone(), torch.ones(kept.shape[0])
    for number, token in enumerate(dropped.tolist()):
        target = int(affinity[number].argmax())
        total[target] += weights[number] * features[token].float()
        mass[target] += weights[number]
    return kept, 0.62 * features[kept].float() + 0.38 * total / mass[:, None]


def loops(stage: Pack, view: InputView) -> tuple[Tensor, Tensor]:
    """The stage with one Python step per pair of tokens (`tests/prune/published.py`)."""
    from omnidrop_cli.outputs import Modality

    features, keep = view.video, stage.video
    salience = stage._salience(view, Modality.VIDEO, features, keep / features.shape[0]).tolist()
    places = coordinates_of(view.tokens, Modality.VIDEO, features).tolist()
    kept = published_omnipack.pool(features, places, salience, keep, 0.25)
    return torch.tensor(kept), published_omnipack.merge(features, places, salience, kept, 0.1, 0.62)


def one(form: str, tokens: int, dim: int) -> dict[str, float]:
    """Seconds and bytes of one run in this process."""
    torch.set_num_threads(1)
    small, few = stage_and_view(1440, 16)
    small(few)  # the first use of each kernel
    stage, view = stage_and_view(tokens, dim)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    kept = stage(view).video if form == "ours" else FORMS[form](stage, view)[0]
    seconds = time.process_time() - start
    taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return {"tokens": view.video.shape[0], "kept": kept.shape[0], "seconds": seconds, "bytes": taken, "sum": int(kept.sum())}


FORMS = {"dense": dense, "loops": loops}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", default="55296")
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--form", default="ours", choices=["ours", *FORMS])
    parser.add_argument("--one", type=int)
    given = parser.parse_args()
    if given.one is not None:
        print(json.dumps(one(given.form, given.one, given.dim)))
        return
    print("| form | tokens | kept | seconds | memory | of all pairs | sum of indices |\n|---|---|---|---|---|---|---|")
    for tokens in map(int, given.tokens.split(",")):
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.packing_scale",
            "--form",
            given.form,
            "--dim",
            str(given.dim),
            "--one",
            str(tokens),
        ]
        # Freed memory goes back at once, so that resident memory is what the stage holds and not what the allocator keeps.
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
        pairs = 4 * row["tokens"] ** 2
        cells = (f"{row['seconds']:.1f} s", f"{row['bytes'] / 1e6:.0f} MB", f"{row['bytes'] / pairs:.3f}", row["sum"])
        print(f"| {given.form} | {row['tokens']} | {row['kept']} | " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
