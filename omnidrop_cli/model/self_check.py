"""Whether the installed transformers is one that omnidrop works with, decided before any weights load.

Tested versions pass at once. Any other newer than the oldest is checked the first time on a tiny random model, in well under a second:
the adapter's results must equal transformers' own. The verdict is kept per version.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from packaging.version import InvalidVersion, Version

from omnidrop_cli import fileio, paths
from omnidrop_cli.errors import ModelError, summarize
from omnidrop_cli.events import SILENT, ProgressCallback
from omnidrop_cli.model.quiet import quiet

if TYPE_CHECKING:
    from torch import Tensor

    from omnidrop_cli.model.thinker import Thinker

OLDEST = "5.17"
TESTED = ("5.17.0", "5.20.2", "5.22.2", "5.23.0", "5.24.0")
"""transformers versions that tests/compat runs under (docs/develop/versions.md)."""

HINT = f"pip install 'transformers=={TESTED[-1]}'"

TOLERANCE = 1e-4
"""Largest difference between float32 results of the tiny model, of order one."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a transformers version. `failed` names the probe that failed, with its reason; None where it works."""

    version: str
    tested: bool
    failed: str | None = None
    seconds: float = 0.0


def require_transformers(progress: ProgressCallback = SILENT) -> None:
    """Make sure that the installed transformers works. Takes no time for tested versions and for those checked before.

    Raises:
        ModelError: It is missing, too old, broken, or gives other results; or Python strips the docstrings that it reads.
    """
    if sys.flags.optimize > 1:
        raise ModelError("transformers cannot be imported under -OO or PYTHONOPTIMIZE=2: it reads docstrings", "run Python without it")
    verdict = known_verdict()
    if verdict is None:
        verdict = run_check()
        _remember(verdict)
        if verdict.failed is None:
            progress.warn(f"transformers {verdict.version} is not among the tested versions; a self-check passed ({verdict.seconds:.1f} s)")
    if verdict.failed is not None:
        raise ModelError(
            f"transformers {verdict.version} does not work with this omnidrop: {verdict.failed}",
            f"{HINT}; tested versions are {', '.join(TESTED)}",
        )


def known_verdict() -> Verdict | None:
    """The verdict on the installed transformers without running anything; None where it has to be checked.

    Raises:
        ModelError: transformers is not installed.
    """
    installed = _installed()
    if installed in TESTED:
        return Verdict(installed, tested=True)
    with suppress(InvalidVersion):
        if Version(installed) < Version(OLDEST):
            return Verdict(installed, tested=False, failed=f"it is older than {OLDEST}")
    try:
        stored = json.loads(paths.self_checks().read_text(encoding="utf-8"))[_key(installed)]
        return Verdict(**stored)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def run_check() -> Verdict:
    """Run every probe on a tiny random model."""
    installed, start, name = _installed(), perf_counter(), "import"
    try:
        with quiet(), _float32_on_cpu():
            from omnidrop_cli.model.random_weights import tiny_thinker

            start, name = perf_counter(), "model"
            thinker = tiny_thinker(3)
            for name in PROBES:
                PROBES[name](thinker)
    except Exception as error:  # whatever a changed library does is the verdict
        return Verdict(installed, tested=False, failed=f"the probe '{name}' fails ({summarize(error)})", seconds=perf_counter() - start)
    return Verdict(installed, tested=False, seconds=perf_counter() - start)


# ---------------------------------------------------------------- probes


def _parts(thinker: Thinker) -> None:
    adapter = thinker.adapter
    _expect(adapter.num_layers == thinker.sizes.num_layers, "the decoder has other layers")
    _expect(None not in (adapter.lm_head, adapter.audio_encoder, adapter.vision_encoder), "the output matrix or an encoder is missing")


def _layers(thinker: Thinker) -> None:
    """The layer loop equals transformers' own forward, whole layers and halves."""
    adapter = thinker.adapter
    embeds, positions = _prompt(thinker)
    stock = adapter.run_stock(embeds, positions)
    angles = adapter.rotary(embeds, positions)
    whole = halves = embeds
    for number in range(adapter.num_layers):
        whole = adapter.run_layer(number, whole, angles)
        layer = adapter.layer(number)
        halves = layer.feed_forward(layer.attention(halves, angles))
    _same(adapter.norm(whole), stock)
    _same(adapter.norm(halves), stock)


def _pruned(thinker: Thinker) -> None:
    """Rows dropped after the first layer equal rows masked from then on, also for a token that follows."""
    import torch

    adapter = thinker.adapter
    embeds, positions = _prompt(thinker)
    rows = embeds.shape[1]
    kept = torch.arange(0, rows, 2)
    (cos, sin), cache, dense_cache = adapter.rotary(embeds, positions), _Cache(), _Cache()
    mask = torch.full((rows, rows), float("-inf")).triu(1)
    hidden = adapter.run_layer(0, embeds, (cos, sin), cache=cache)[:, kept]
    dense = adapter.run_layer(0, embeds, (cos, sin), mask=mask[None, None], cache=dense_cache)
    mask[:, [row for row in range(rows) if row % 2]] = float("-inf")
    mask.fill_diagonal_(0.0)  # a row without any key gives NaN
    for number in range(1, adapter.num_layers):
        hidden = adapter.run_layer(number, hidden, (cos[:, kept], sin[:, kept]), cache=cache)
        dense = adapter.run_layer(number, dense, (cos, sin), mask=mask[None, None], cache=dense_cache)
    _same(hidden, dense[:, kept])
    _expect([keys.shape[2] for keys, _ in cache.layers.values()] == [rows, len(kept), len(kept)], "the cache has other lengths")

    follower, angles = embeds[:, :1], adapter.rotary(embeds[:, :1], positions[:, :, -1:] + 1)
    following = dense_following = follower
    for number in range(adapter.num_layers):
        following = adapter.run_layer(number, following, angles, cache=cache)
        hide = torch.zeros(1, 1, 1, rows + 1)
        hide[..., 1:rows:2] = float("-inf") if number else 0.0
        dense_following = adapter.run_layer(number, dense_following, angles, mask=hide, cache=dense_cache)
    _same(following, dense_following)


def _projections(thinker: Thinker) -> None:
    """Projected keys and values are those that the layer itself caches."""
    adapter, cache = thinker.adapter, _Cache()
    embeds, positions = _prompt(thinker)
    angles = adapter.rotary(embeds, positions)
    adapter.run_layer(0, embeds, angles, cache=cache)
    keys, values = adapter.layer(0).keys_and_values(embeds, angles)
    _same(keys, cache.layers[0][0])
    _same(values, cache.layers[0][1])
    _expect(adapter.layer(0).queries(embeds, angles).shape[1] == thinker.sizes.heads, "the queries have other heads")


def _encoders(thinker: Thinker) -> None:
    """Encoders with batched windows equal stock ones, and attention received sums to the number of queries."""
    import torch

    adapter, noise = thinker.adapter, torch.Generator().manual_seed(0)
    mel = torch.randn(128, 460, generator=noise)
    patches, grid = torch.randn(2 * 10 * 12, 1176, generator=noise), torch.tensor([[2, 10, 12]])
    with adapter.capture_audio_attention() as heard, adapter.capture_video_attention() as seen:
        audio, video = adapter.encode_audio(mel), adapter.encode_video(patches, grid)
    with adapter.stock_encoder_attention():
        _same(audio, adapter.encode_audio(mel))
        _same(video, adapter.encode_video(patches, grid))
    _same(heard.received().mean()[None], torch.ones(1), 0.02)  # an odd last frame has no token
    _same(seen.received().mean()[None], torch.ones(1))


def _unquantized(thinker: Thinker) -> None:
    from omnidrop_cli.model.adapter import unquantized_names
    from omnidrop_cli.model.random_weights import thinker_config, tiny_sizes

    _expect(len(unquantized_names(thinker_config(tiny_sizes(), thinker.tokenizer))) == 3, "the modules that stay in 16 bit are not found")


PROBES: dict[str, Callable[[Thinker], None]] = {
    "parts": _parts,
    "layer loop": _layers,
    "pruned layers": _pruned,
    "projections": _projections,
    "encoders": _encoders,
    "unquantised modules": _unquantized,
}


class _Cache:
    """The least that a layer asks of a cache."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        import torch

        if layer_idx in self.layers:
            keys, values = self.layers[layer_idx]
            key_states, value_states = torch.cat((keys, key_states), 2), torch.cat((values, value_states), 2)
        self.layers[layer_idx] = key_states, value_states
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.layers[layer_idx][0].shape[2] if layer_idx in self.layers else 0


def _prompt(thinker: Thinker) -> tuple[Tensor, Tensor]:
    """Embeddings (1, n, d) and TMRoPE positions (3, 1, n) whose three rows differ."""
    import torch

    ids = torch.arange(24) + 60
    steps = torch.arange(24)
    return thinker.adapter.embed(ids)[None], torch.stack((steps, steps // 2, steps % 5))[:, None]


def _same(found: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    _expect(found.shape == expected.shape, f"shape {tuple(found.shape)} instead of {tuple(expected.shape)}")
    difference = float((found.float() - expected.float()).abs().max())
    _expect(difference <= tolerance, f"results differ by {difference:.2g}")


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


@contextmanager
def _float32_on_cpu() -> Iterator[None]:
    """No gradients, and the default type and device whatever the caller has set."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(), torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(before)


# ---------------------------------------------------------------- verdicts


def _installed() -> str:
    try:
        return version("transformers")
    except PackageNotFoundError as error:
        raise ModelError("transformers is not installed", HINT) from error


def _key(installed: str) -> str:
    """Names a verdict: transformers, torch, and this program, which a verdict is about as much."""
    digest = hashlib.sha256()
    for name in ("adapter.py", "encoder_attention.py", "random_weights.py", "self_check.py"):
        digest.update(Path(__file__).with_name(name).read_bytes())
    with suppress(PackageNotFoundError):
        digest.update(version("torch").encode())
    return f"{installed} {digest.hexdigest()[:16]}"


def _remember(verdict: Verdict) -> None:
    """Keep a verdict. Where the disk refuses, the next process checks again."""
    path = paths.self_checks()
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        stored = {}
    entries = dict(list(stored.items())[-9:]) if isinstance(stored, dict) else {}
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with fileio.replacing(path) as part:
            part.write_text(json.dumps({**entries, _key(verdict.version): asdict(verdict)}, indent=1) + "\n", encoding="utf-8")
