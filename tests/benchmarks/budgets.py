"""docs/results/budgets.md: what every method and preset keeps and costs, in the same units. `python -m tests.benchmarks budgets`.

Token counts are those of a prefill with the 7B's 28 layers in miniature, on noise in the papers' layout: counts depend on the layout and
the number of layers, not on widths. FLOPs are computed from the 7B's sizes and these counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from omnidrop_cli.bench.prefilling import label
from omnidrop_cli.bench.synthetic import MEL_FRAMES_PER_SECOND, PATCHES_HIGH, PATCHES_WIDE, noise_features, papers_prompt
from omnidrop_cli.config import PruningConfig
from omnidrop_cli.engine.build_report import flops_of
from omnidrop_cli.engine.encode import embed
from omnidrop_cli.engine.metrics import encoder_flops
from omnidrop_cli.engine.prefill import prefill
from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.evaluate.score_tables import percent, table
from omnidrop_cli.model.random_weights import tiny_thinker
from omnidrop_cli.model.sizes import QWEN_7B
from omnidrop_cli.prune.methods import find, get_method, names

PAGE = Path(__file__).parents[2] / "docs" / "results" / "budgets.md"
SECONDS = 60
KEEPS = (0.3, 0.2, 0.1)

HEADER = (
    "method",
    "enters the decoder %",
    "mean entering %",
    "mean after %",
    "last layer %",
    "cache %",
    "decoder FLOPs %",
    "FLOPs with encoders %",
)

TEXT = f"""# Budgets

"30 % kept" means different things in different papers: the share that enters the decoder, or a mean over layers, counted before or after
each cut, and never with the encoders. This table has every method and preset of `omnidrop` in all of these units.

- **enters the decoder**: share of audio and video tokens that the first layer sees.
- **mean entering**, **mean after**: mean over layers of the share that a layer sees, and of the share that is left behind it
  ([pruning](../concepts/pruning.md)).
- **last layer**, **cache**: what decoding can attend to: audio and video tokens in the last layer, and the key-value cache of all layers
  with text.
- **decoder FLOPs**: prefill, exact, relative to no pruning. **FLOPs with encoders**: the same with both encoders in numerator and
  denominator, since pruning does not make them cheaper.

{SECONDS} seconds in the papers' layout (252x448 frames at 2 fps, audio, 120 text tokens), 28 layers, sizes of Qwen2.5-Omni-7B. Computed,
not measured: the counts are those of a real prefill on noise. Methods whose choice depends on the clip (`dash`, `omnizip`, `dycoke`) keep a
little more or less on a real one. Made by

```console title="takes minutes"
python -m tests.benchmarks budgets
```
"""


def write() -> None:
    """Compute every row and write the page."""
    PAGE.write_text(page(list(choices())), encoding="utf-8")


def choices() -> Iterator[PruningConfig]:
    """No pruning, then every method at `KEEPS` and with each of its presets."""
    yield PruningConfig("none")
    for name in names():
        if name == "none":
            continue
        # OmniSIFT's counts do not depend on whether its selector is trained.
        options = {"selector": "untrained"} if name == "omnisift" else {}
        yield from (PruningConfig(name, keep=keep, options=options) for keep in KEEPS)
        yield from (PruningConfig(name, preset=preset, options=options) for preset in find(name).presets)


def page(methods: Sequence[PruningConfig]) -> str:
    """The page with a row for each of `methods`; those that cannot run on noise are named below the table."""
    rows, left_out = [], []
    for choice in methods:
        try:
            rows.append(row(choice))
        except (OmnidropError, ValueError) as error:
            left_out.append(f"`{label(choice)}` is not in the table: {error}.")
    encoders, decoder = _encoders(), flops_of(QWEN_7B.decoder, _tokens(), [_tokens()] * QWEN_7B.decoder.num_layers).full
    costs = f"Unpruned, the decoder's prefill takes {decoder / 1e12:.1f} TFLOPs and the encoders {encoders / 1e12:.1f} TFLOPs."
    return "\n".join([TEXT, costs, "", table(HEADER, rows), *(["", *left_out] if left_out else []), ""])


def row(choice: PruningConfig) -> list[str]:
    """One method in all units. Raises `OmnidropError` for one that cannot run."""
    thinker = tiny_thinker(QWEN_7B.decoder.num_layers)
    prompt = papers_prompt(thinker, SECONDS)
    features = noise_features(thinker, prompt)
    trace = prefill(thinker, prompt, embed(thinker, prompt, features), features, get_method(choice)).trace
    lengths, media = trace.kv_lengths, trace.prompt.media
    flops, encoders = flops_of(QWEN_7B.decoder, len(prompt), lengths), _encoders()
    return [
        f"`{label(choice)}`",
        *(
            percent(share)
            for share in (
                trace.entering[0].media / media,
                trace.retention_entering,
                trace.retention_after,
                trace.entering[-1].media / media,
                sum(lengths) / (len(prompt) * len(lengths)),
                flops.ratio,
                (flops.pruned + encoders) / (flops.full + encoders),
            )
        ),
    ]


def _encoders() -> int:
    return encoder_flops(QWEN_7B, grid_thw=(SECONDS, PATCHES_HIGH, PATCHES_WIDE), mel_frames=SECONDS * MEL_FRAMES_PER_SECOND)


def _tokens() -> int:
    return len(papers_prompt(tiny_thinker(1), SECONDS))
