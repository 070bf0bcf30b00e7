"""The estimator: forward the hard choice to the bit, backward a gradient that finds what matters."""

from __future__ import annotations

import torch
from torch import nn

from omnidrop_cli.nano.train.straight_through import straight_through, through_attention


def test_slopes_pass_whole() -> None:
    choice, slope = torch.tensor([1.0, 0.0]), torch.tensor([0.3, 0.6]).requires_grad_()
    straight_through(choice, slope).mul(torch.tensor([2.0, 7.0])).sum().backward()
    assert slope.grad is not None
    assert slope.grad.tolist() == [2.0, 7.0]


def test_attention_forward_is_softmax_over_what_stays() -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 4, 9, generator=generator)
    stays = torch.tensor([1.0, 0, 1, 1, 0, 0, 1, 1, 0])
    weights = through_attention(logits.softmax(-1), stays, torch.rand(9, generator=generator))
    kept = stays.bool()
    torch.testing.assert_close(weights[..., kept], logits[..., kept].softmax(-1))
    assert (weights[..., ~kept] == 0).all()


def test_attention_asks_for_what_is_missing() -> None:
    """One query, three keys; the wanted value is at a key that goes, a harmful one at a key that stays."""
    values = torch.tensor([[0.0], [-1.0], [1.0]])
    scores = torch.tensor([0.5, 0.6, 0.4]).requires_grad_()
    weights = through_attention(torch.full((1, 3), 1 / 3), torch.tensor([1.0, 1.0, 0.0]), scores)
    (-(weights @ values)).sum().backward()
    assert scores.grad is not None
    assert scores.grad[2] < 0 < scores.grad[1], "descent raises the score of what is missing and lowers that of what harms"


def test_a_row_that_looks_at_nothing_that_stays_has_a_bounded_gradient() -> None:
    scores = torch.tensor([0.5, 0.5]).requires_grad_()
    weights = through_attention(torch.tensor([[1e-30, 1.0]]), torch.tensor([1.0, 0.0]), scores)
    (weights @ torch.tensor([[1.0], [-1.0]])).sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert scores.grad.abs().max() < 10


def test_a_scorer_learns_what_to_keep() -> None:
    """It learns to lower the distance to the mean of marked tokens, 4 of 16."""
    torch.manual_seed(0)
    scorer = nn.Linear(8, 1)
    optimiser = torch.optim.Adam(scorer.parameters(), lr=0.02)
    right = 0.0
    for step in range(400):
        features = torch.randn(16, 8)
        features[:, 0] = -1.0
        features[:4, 0] = 1.0
        scores = scorer(features)[:, 0].sigmoid()
        kept = scores.detach().topk(4).indices
        stays = torch.zeros(16).index_fill(0, kept, 1.0)
        got = (through_attention(torch.full((1, 16), 1 / 16), stays, scores) @ features[:, :1]).squeeze()
        optimiser.zero_grad()
        (got - 1.0).abs().backward()
        optimiser.step()
        if step >= 350:
            right += float((kept < 4).float().mean()) / 50
    assert right > 0.95
