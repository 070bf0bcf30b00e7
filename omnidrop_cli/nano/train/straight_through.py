"""Training through a hard choice: the straight-through estimator (Bengio et al. 2013, arXiv 1308.3432) as OmniSIFT uses it, and a variant.

Scores that decide which tokens stay get a gradient although staying is all or nothing. The gradient can enter in two places:

- the embeddings: the published one (arXiv 2602.04804). Any model trains with it unchanged, but a score only learns what a slightly longer
  embedding would do, of tokens that stay, and layer norms hide most of that. Not used here.
- the attention (`through_attention`): a score learns what being attended to would do, of tokens that stay and of tokens that go. It needs
  the attention weights.
"""

from __future__ import annotations

from torch import Tensor

LEAST = 1e-20
"""Attention left to what stays, at least: a row that looks at nothing else must not divide by zero."""


def straight_through(choice: Tensor, slope: Tensor) -> Tensor:
    """`choice` exactly, with the gradient of `slope`; both of one shape.

    The difference added is zero to the bit, where the published form, `(choice - slope).detach() + slope`, is `choice` up to rounding.
    """
    return choice.detach() + (slope - slope.detach())


def through_attention(weights: Tensor, stays: Tensor, scores: Tensor) -> Tensor:
    """Attention `weights` (..., rows, keys), softmax over all keys, as if only keys with `stays` 1 were there, others having 0.

    `stays` and `scores`, in (0, 1], broadcast against the weights. Backwards every key counts by its score: the slope of the choice
    itself has no bound where a row looks at little of what stays. Forwards this is the softmax over what stays.
    """
    hard = weights * stays
    soft = weights * scores
    return straight_through(hard / hard.sum(-1, keepdim=True).clamp_min(LEAST), soft / soft.sum(-1, keepdim=True).clamp_min(LEAST))
