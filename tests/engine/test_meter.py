"""FLOPs against torch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from omnidrop_cli.engine.meter import Stopwatch, prefill_flops


@pytest.mark.parametrize(
    ("n", "hidden", "heads", "kv_heads", "head_dim", "mlp", "vocab"), [(13, 32, 4, 2, 8, 48, 100), (7, 48, 6, 1, 16, 64, 10)]
)
def test_flops_of_one_layer(n: int, hidden: int, heads: int, kv_heads: int, head_dim: int, mlp: int, vocab: int) -> None:
    x = torch.randn(n, hidden)
    with FlopCounterMode(display=False) as counter:
        x @ torch.randn(hidden, heads * head_dim)
        x @ torch.randn(hidden, kv_heads * head_dim)
        x @ torch.randn(hidden, kv_heads * head_dim)
        torch.randn(n, heads * head_dim) @ torch.randn(heads * head_dim, hidden)
        x @ torch.randn(hidden, mlp)
        x @ torch.randn(hidden, mlp)
        torch.randn(n, mlp) @ torch.randn(mlp, hidden)
        for row in range(1, n + 1):  # causal: row i meets i keys, for scores and for the weighted sum
            torch.randn(heads, 1, head_dim) @ torch.randn(heads, head_dim, row)
            torch.randn(heads, 1, row) @ torch.randn(heads, row, head_dim)
        x[-1:] @ torch.randn(hidden, vocab)
    ours = prefill_flops([n], hidden=hidden, heads=heads, kv_heads=kv_heads, head_dim=head_dim, mlp=mlp, vocab=vocab)
    assert ours == counter.get_total_flops()


def test_published_ratios() -> None:
    """methods.md 8.6: 7B, 64 chunks of 338 tokens and 120 of text; input-level keep 45/35/30/25/20 %."""
    shape = {"hidden": 3584, "heads": 28, "kv_heads": 4, "head_dim": 128, "mlp": 18944, "vocab": 0}
    media, text = 64 * 338, 120
    full = prefill_flops([media + text] * 28, **shape)
    ratios = [prefill_flops([round(media * keep) + text] * 28, **shape) / full for keep in (0.45, 0.35, 0.30, 0.25, 0.20)]
    assert [round(100 * r, 1) for r in ratios] == pytest.approx([39.1, 29.6, 25.1, 20.7, 16.4], abs=0.15)


def test_stages_add_up_and_survive_errors() -> None:
    watch = Stopwatch(before={"decode": 1.0})
    with watch.stage("decode"):
        pass
    with pytest.raises(ZeroDivisionError), watch.stage("encode"):
        1 / 0  # noqa: B018
    assert watch.seconds["decode"] > 1.0
    assert watch.seconds["encode"] >= 0.0
