"""The estimator: forward the hard choice to the bit, backward a gradient that finds what matters."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from omnidrop_cli.nano.train.straight_through import gated, gates, straight_through, through_attention


@given(st.integers(1, 40), st.data())
def test_forward_is_the_hard_choice(count: int, data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, count))
    scores = torch.rand(count, generator=torch.Generator().manual_seed(count)).requires_grad_()
    kept = scores.detach().topk(keep).indices.sort().values
    features = torch.randn(count, 5)
    made = gates(scores, kept)
    assert made.detach().sum() == keep
    assert set(made.tolist()) <= {0.0, 1.0}
    assert torch.equal(gated(features, scores, kept), features[kept])


def test_the_gradient_of_a_kept_score_is_what_its_token_is_worth() -> None:
    """Loss = -(sum of the kept values): a longer good token lowers it, a longer bad one raises it, one that is gone does nothing."""
    scores = torch.tensor([0.9, 0.8, 0.1]).requires_grad_()
    features = torch.tensor([[2.0], [-3.0], [5.0]])
    (-gated(features, scores, torch.tensor([0, 1])).sum()).backward()
    assert scores.grad is not None
    assert scores.grad.tolist() == [-2.0, 3.0, 0.0]


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


def _learned(how: str) -> float:
    """How many of the marked tokens a small scorer keeps after learning to lower the distance to their mean; 4 of 16 are marked."""
    torch.manual_seed(0)
    scorer = nn.Linear(8, 1)
    optimiser = torch.optim.Adam(scorer.parameters(), lr=0.02)
    right = 0.0
    for step in range(400):
        features = torch.randn(16, 8)
        features[:, 0] = -1.0
        features[:4, 0] = 1.0
        scores = scorer(features)[:, 0].sigmoid()
        kept = scores.detach().topk(4).indices.sort().values
        value = features[:, :1]
        if how == "embedding":
            got = gated(value, scores, kept).mean()
        else:
            stays = torch.zeros(16).index_fill(0, kept, 1.0)
            got = (through_attention(torch.full((1, 16), 1 / 16), stays, scores) @ value).squeeze()
        optimiser.zero_grad()
        (got - 1.0).abs().backward()
        optimiser.step()
        if step >= 350:
            right += float((kept < 4).float().mean()) / 50
    return right


def test_a_scorer_learns_what_to_keep() -> None:
    assert _learned("attention") > 0.95
    assert _learned("embedding") > 0.95
