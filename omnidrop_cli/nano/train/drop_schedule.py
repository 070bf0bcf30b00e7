"""How many media tokens each layer sees in training: random curves that end in none for the last quarter of the layers.

The real 7B needs no media token from about layer 23 of 28 on (SEATS, arXiv 2605.20035); a model trained without dropping reads them up to
its last layer and cannot be pruned.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def full_then_none(layers: int, media_layers: int, clips: int) -> Tensor:
    """(layers, clips) shares: everything, then nothing in the last quarter."""
    keep = torch.ones(layers, clips)
    keep[media_layers:] = 0.0
    return keep


DROPPING, WHOLE = 0.4, 0.4
"""Shares of clips that lose tokens early, and that lose none."""


def random_shares(layers: int, media_layers: int, clips: int, rng: np.random.Generator) -> Tensor:
    """As `full_then_none`, but some clips lose tokens before, from a random layer of their upper half on, and some keep all of them to
    the end: a model that never met tokens in its last quarter is thrown by them when nothing prunes.
    """
    keep = full_then_none(layers, media_layers, clips)
    for clip in range(clips):
        lot = rng.random()
        if lot < DROPPING:
            first = int(rng.integers(media_layers // 2, media_layers))
            curve = np.linspace(1.0, float(rng.uniform(0.0, 0.6)), media_layers - first + 1)[1:]
            keep[first:media_layers, clip] = torch.from_numpy(curve).float()
        elif lot < DROPPING + WHOLE:
            keep[:, clip] = 1.0
    return keep
