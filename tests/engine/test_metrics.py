"""FLOPs against torch's own counter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from omnidrop_cli.engine.metrics import Stopwatch, encoder_flops, prefill_flops
from omnidrop_cli.model.random_weights import tiny_sizes, tiny_thinker
from omnidrop_cli.model.sizes import QWEN_7B
from omnidrop_cli.model.thinker import Thinker


@pytest.mark.parametrize("last_row_only", [False, True])
@pytest.mark.parametrize(
    ("entering", "hidden", "heads", "kv_heads", "head_dim", "mlp", "vocab"),
    [((13,), 32, 4, 2, 8, 48, 100), ((9, 7, 4), 48, 6, 1, 16, 64, 10)],
)
def test_flops_are_those_torch_counts(
    entering: tuple[int, ...], hidden: int, heads: int, kv_heads: int, head_dim: int, mlp: int, vocab: int, last_row_only: bool
) -> None:
    with FlopCounterMode(display=False) as counter:
        for number, n in enumerate(entering):
            first = n - 1 if last_row_only and number == len(entering) - 1 else 0  # rows before it leave keys and values only
            x, y = torch.randn(n, hidden), torch.randn(n - first, hidden)
            x @ torch.randn(hidden, kv_heads * head_dim)
            x @ torch.randn(hidden, kv_heads * head_dim)
            y @ torch.randn(hidden, heads * head_dim)
            torch.randn(n - first, heads * head_dim) @ torch.randn(heads * head_dim, hidden)
            y @ torch.randn(hidden, mlp)
            y @ torch.randn(hidden, mlp)
            torch.randn(n - first, mlp) @ torch.randn(mlp, hidden)
            for row in range(first + 1, n + 1):  # causal: row i meets i keys, for scores and for the weighted sum
                torch.randn(heads, 1, head_dim) @ torch.randn(heads, head_dim, row)
                torch.randn(heads, 1, row) @ torch.randn(heads, row, head_dim)
        torch.randn(1, hidden) @ torch.randn(hidden, vocab)
    shape = {"hidden": hidden, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "mlp": mlp, "vocab": vocab}
    assert prefill_flops(entering, **shape, last_row_only=last_row_only) == counter.get_total_flops()


@pytest.fixture(scope="module")
def thinker() -> Thinker:
    return tiny_thinker(1)


@pytest.mark.parametrize("grid", [(1, 4, 6), (3, 8, 8), (2, 18, 32), (2, 10, 20), (1, 2, 2)])
def test_vision_encoder_flops_are_those_torch_counts(thinker: Thinker, grid: tuple[int, int, int]) -> None:
    grids, height, width = grid
    patches = torch.randn(grids * height * width, 3 * 2 * 14 * 14)
    counted = _counted(thinker, lambda: thinker.adapter.encode_video(patches, torch.tensor([grid])))
    assert encoder_flops(tiny_sizes(1), grid_thw=grid) == counted


@pytest.mark.parametrize("mel_frames", [200, 400, 467, 1000, 37, 201 + 3])
def test_audio_encoder_flops_are_those_torch_counts(thinker: Thinker, mel_frames: int) -> None:
    mel = torch.randn(128, mel_frames)
    counted = _counted(thinker, lambda: thinker.adapter.encode_audio(mel))
    assert encoder_flops(tiny_sizes(1), mel_frames=mel_frames) == counted


def _counted(thinker: Thinker, run: Callable[[], object]) -> int:
    """FLOPs that torch counts in transformers' own encoder; its fused CPU attention has no counter, so attention is written out."""
    with (
        thinker.adapter.stock_encoder_attention(),
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        run()
    return counter.get_total_flops()


def test_the_7bs_encoders_on_a_minute_cost_what_their_parameters_say() -> None:
    """Two FLOPs per parameter and token row, plus attention: the products alone are 95 % of it."""
    video = encoder_flops(QWEN_7B, grid_thw=(60, 18, 32))
    rows = 60 * 18 * 32
    d, m = 1280, 3420
    products = 2 * rows * 32 * (4 * d * d + 3 * d * m)
    assert 1.0 < video / products < 1.15
    assert encoder_flops(QWEN_7B) == 0


def test_published_ratios() -> None:
    """7B, 64 chunks of 338 tokens and 120 of text; input-level keep 45/35/30/25/20 %."""
    shape = {"hidden": 3584, "heads": 28, "kv_heads": 4, "head_dim": 128, "mlp": 18944, "vocab": 0}
    media, text = 64 * 338, 120

    def flops(tokens: int) -> int:
        return prefill_flops([tokens] * 28, **shape, last_row_only=False)

    full = flops(media + text)
    ratios = [flops(round(media * keep) + text) / full for keep in (0.45, 0.35, 0.30, 0.25, 0.20)]
    assert [round(100 * r, 1) for r in ratios] == pytest.approx([39.1, 29.6, 25.1, 20.7, 16.4], abs=0.15)


def test_stages_add_up_and_survive_errors() -> None:
    watch = Stopwatch(before={"decode": 1.0})
    with watch.stage("decode"):
        pass
    with pytest.raises(ZeroDivisionError), watch.stage("encode"):
        1 / 0  # noqa: B018
    assert watch.seconds["decode"] > 1.0
    assert watch.seconds["encode"] >= 0.0
